package asking

import "testing"

// typing is what is understood of what is typed, up to the last Enter.
func typing(pieces ...string) (understood string, shown string) {
	l := newLine(func(text string) { shown += text })
	for _, piece := range pieces {
		l.take([]byte(piece))
	}
	select {
	case understood = <-l.done:
	default:
		understood = "(nothing)"
	}
	return understood, shown
}

func TestAnAnswerIsAWholeWordThatAPersonTyped(t *testing.T) {
	for typed, want := range map[string]string{
		"once\r": "once", "always\n": "always", "no\r": "no", " Once \r": "once", "onx\x7fce\r": "once", "nonce\x15once\r": "once",
		"\x03": "no", "\x04": "no", "al\x03": "no", "once": "(nothing)", "\r": "",
		// With these a terminal answers what a program asks it: a title that the program
		// set, where the cursor is.
		"\x1b]lalways\x1b\\\r": "", "\x1b[24;80Ralways\r": "", "\x90always\x9c\r": "", "always\x00\r": "",
		"always and more than an answer has\r": "", "alwaysalwaysalways\x7f\x7f\r": "",
	} {
		if got, _ := typing(typed); got != want {
			t.Errorf("%q is understood as %q, want %q", typed, got, want)
		}
	}
	if got, shown := typing("al", "way", "s", "\r"); got != "always" || shown != "always" {
		t.Errorf("in pieces: %q, shown as %q", got, shown)
	}
	if got, shown := typing("\x1b]0;x\x1b\\"); got != "(nothing)" || shown != "" {
		t.Errorf("a sequence: %q, shown as %q", got, shown)
	}
	// One line is understood at a time.
	if got, _ := typing("no\ralways\r"); got != "no" {
		t.Errorf("two lines: %q", got)
	}
}
