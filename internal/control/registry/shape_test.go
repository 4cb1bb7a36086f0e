package registry

import (
	"testing"

	"sluice.dev/sluice/internal/format/shape"
)

func TestTheShapeOfAMemoryIsThatOfItsFormat(t *testing.T) {
	shape.Check(t, "memory", MemoryFormat, Memory{})
}
