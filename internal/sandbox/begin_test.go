package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestAnInitThatIsNotSetUpAfterAllLeavesNothing(t *testing.T) {
	needSandbox(t)
	for name, end := range map[string]func(b *Beginning) error{
		"dropped": func(b *Beginning) error { b.Drop(); b.Drop(); return errors.New("dropped") },
		"told what makes no sense": func(b *Beginning) error {
			defer b.Drop()
			_, err := b.SetUp(t.Context(), Late{Mask: []string{"relative"}})
			return err
		},
	} {
		b := Begin(Config{Command: []string{"true"}})
		if err := end(b); err == nil {
			t.Errorf("%s: it was set up", name)
		}
		select {
		case <-b.sandbox.ended:
		default:
			t.Errorf("%s: its init has not ended", name)
		}
		for _, f := range b.sandbox.group.made {
			t.Errorf("%s: %s is left", name, f.top)
		}
	}
}

func TestWhatIsWrongWithABeginningIsSaidWhenItIsSetUp(t *testing.T) {
	if _, err := Begin(Config{}).SetUp(t.Context(), Late{}); !errors.Is(err, errNoCommand) {
		t.Error(err)
	}
	gone := filepath.Join(t.TempDir(), "gone")
	if _, err := Begin(Config{Command: []string{"true"}, Dir: gone}).SetUp(t.Context(), Late{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
