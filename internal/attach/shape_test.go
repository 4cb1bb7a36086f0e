package attach

import (
	"testing"

	"sluice.dev/sluice/internal/format/shape"
)

func TestTheShapeOfAHelloIsThatOfItsFormat(t *testing.T) {
	shape.Check(t, "hello", helloFormat, hello{}, word{})
}

func TestTheShapeOfAWelcomeIsThatOfItsFormat(t *testing.T) {
	shape.Check(t, "welcome", welcomeFormat, welcome{}, news{})
}
