package format

import (
	"errors"
	"strings"
	"testing"
)

var hello = Kind{Name: "the hello of a sandbox", Oldest: 1, Newest: 2}

func TestAFormatThatIsReadPassesAndAbsentIsTheFirst(t *testing.T) {
	for _, b := range []string{`{}`, `{"format":1}`, `{"format":2,"later":{"than":"this"}}`} {
		if err := hello.CheckJSON([]byte(b)); err != nil {
			t.Errorf("%s: %v", b, err)
		}
	}
}

func TestAnotherFormatIsRefusedWithTheReasonAndWhatToDo(t *testing.T) {
	second := Kind{Name: "the index", Oldest: 2, Newest: 2}
	for _, c := range []struct {
		kind  Kind
		b     string
		want  string
		newer bool
	}{
		{hello, `{"format":7}`, "the hello of a sandbox has format 7; this Sluice reads formats 1 to 2: upgrade this Sluice", true},
		{second, `{"format":3}`, "the index has format 3; this Sluice reads format 2: upgrade this Sluice", true},
		{Kind{Name: "the join", Oldest: 1, Newest: 1, Reader: "sluice-server"}, `{"format":2}`, "the join has format 2; sluice-server reads format 1: upgrade sluice-server", true},
		{second, `{"version":"a"}`, "the index has format 1; this Sluice reads format 2: upgrade the Sluice that wrote it", false},
		{hello, `{"format":-1}`, "the hello of a sandbox has format -1; this Sluice reads formats 1 to 2: it is damaged", false},
	} {
		err := c.kind.CheckJSON([]byte(c.b))
		var unknown *UnknownError
		if !errors.As(err, &unknown) || err.Error() != c.want || unknown.Newer() != c.newer {
			t.Errorf("%s: %v", c.b, err)
		}
	}
}

func TestWhatIsNotAnObjectWithAFormatIsNotValid(t *testing.T) {
	for _, b := range []string{``, `[]`, `7`, `{"format":"7"}`, `{"format":1.5}`, `{"format":99999999999999999999}`, `{"format":`} {
		err := hello.CheckJSON([]byte(b))
		var unknown *UnknownError
		if err == nil || errors.As(err, &unknown) || !strings.HasPrefix(err.Error(), "the hello of a sandbox is not ") || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%q: %v", b, err)
		}
	}
}
