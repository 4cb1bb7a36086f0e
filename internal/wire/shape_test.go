package wire

import (
	"testing"

	"sluice.dev/sluice/internal/format/shape"
)

func TestTheShapeOfASnapshotIsThatOfItsFormat(t *testing.T) {
	shape.Check(t, "snapshot", Format, Snapshot{}, Index{})
}
