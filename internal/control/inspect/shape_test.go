package inspect

import (
	"testing"

	"sluice.dev/sluice/internal/format/shape"
	"sluice.dev/sluice/internal/record"
)

func TestTheShapeOfTheAnswersIsThatOfTheirFormat(t *testing.T) {
	shape.Check(t, "answers", Format, Status{}, VersionAnswer{}, Why{}, Opened{}, record.Record{})
}
