package stream

import (
	"testing"

	"sluice.dev/sluice/internal/format/shape"
)

func TestTheShapeOfAJoinIsThatOfItsFormat(t *testing.T) { shape.Check(t, "join", JoinFormat, Join{}) }

func TestTheShapeOfAReadinessIsThatOfItsFormat(t *testing.T) {
	shape.Check(t, "readiness", ReadinessFormat, Readiness{})
}

func TestTheShapeOfAQuestionIsThatOfItsFormat(t *testing.T) {
	shape.Check(t, "questions", ObserveFormat, Query{}, Answer{})
}
