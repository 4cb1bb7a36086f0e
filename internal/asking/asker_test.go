package asking

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// denied is the record of a TLS connection that no rule allows.
func denied(host string) *record.Record {
	return &record.Record{
		Direction: record.Egress, Dialled: host, Port: 443, Sniffed: policy.ClientHello, SNI: host, Verdict: record.Denied, Reason: refusal.NoRule,
	}
}

// user answers questions.
type user struct {
	asked   chan Question
	answers chan Answer
	opened  []string // the names of rules that were put in force
	kept    int
	said    []string
}

func newUser() (*user, *Asker) {
	u := &user{asked: make(chan Question), answers: make(chan Answer)}
	return u, New(Config{
		Program: "curl", Domain: names.MustParse("mesh.local"),
		Prompt: func(ctx context.Context, q Question) (Answer, error) {
			select {
			case u.asked <- q:
			case <-ctx.Done():
				return No, ctx.Err()
			}
			select {
			case a := <-u.answers:
				return a, nil
			case <-ctx.Done():
				return No, ctx.Err()
			}
		},
		Allow: func(rules []api.Object, always bool) error {
			for _, r := range rules {
				u.opened = append(u.opened, r.Metadata.Name)
			}
			if always {
				u.kept++
			}
			return nil
		},
		Denied: func(text string) { u.said = append(u.said, text) },
	})
}

// ask asks and says what came of it.
func ask(a *Asker, r *record.Record) <-chan bool {
	out := make(chan bool, 1)
	go func() { out <- a.Ask(context.Background(), r) }()
	return out
}

func TestTheSameQuestionIsAskedOnceAndItsAnswerCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, a := newUser()
		for host, answer := range map[string]Answer{"a.example.com": Once, "b.example.com": Always, "c.example.com": No} {
			first, second := ask(a, denied(host)), ask(a, denied(host))
			if q := <-u.asked; q.Destination != host+":443" || q.Program != "curl" || q.Reason != refusal.NoRule.Text() || len(q.Warnings) > 0 {
				t.Errorf("%s is asked about as %+v", host, q)
			}
			u.answers <- answer
			third := a.Ask(t.Context(), denied(host)) // nobody would answer
			for i, got := range []bool{<-first, <-second, third} {
				if got != (answer != No) {
					t.Errorf("%s: number %d gets %v", host, i, got)
				}
			}
		}
		if len(u.opened) != 2 || u.kept != 1 || len(u.said) > 0 {
			t.Errorf("in force are %q, %d kept, said is %q", u.opened, u.kept, u.said)
		}
	})
}

func TestQuestionsComeOneByOneAndEachIsDeniedAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, a := newUser()
		begun := time.Now()
		first, second := ask(a, denied("a.example.com")), ask(a, denied("a.example.org"))
		<-u.asked
		synctest.Wait()
		select {
		case q := <-u.asked:
			t.Fatalf("%v is asked beside the first", q)
		default:
		}
		if <-first || <-second || time.Since(begun) != AnswerTime {
			t.Errorf("without an answer something passed, or after %v", time.Since(begun))
		}
		if len(u.opened) > 0 {
			t.Errorf("in force are %q", u.opened)
		}
		if a.Ask(t.Context(), denied("a.example.com")) {
			t.Error("what nobody answered passes later")
		}
	})
}

func TestQuestionsAndAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, a := newUser()
		var waiting []<-chan bool
		for i := range MaxWaiting {
			waiting = append(waiting, ask(a, denied(fmt.Sprintf("a%d.example.com", i))))
			synctest.Wait()
		}
		if a.Ask(t.Context(), denied("more.example.com")) {
			t.Error("more passes")
		}
		if len(u.said) != 1 || !strings.Contains(u.said[0], "more.example.com:443 was not asked about: 16 questions wait") {
			t.Errorf("said is %q", u.said)
		}
		for range waiting {
			<-u.asked
			u.answers <- No
		}
		for _, w := range waiting {
			<-w
		}
		one := ask(a, denied("more.example.com")) // it was not asked about, so it is now
		<-u.asked
		u.answers <- Once
		if !<-one {
			t.Error("what could not be asked about before is denied for good")
		}
		for i := len(a.known); i < MaxAnswers; i++ {
			a.known[fmt.Sprint(i)] = &asked{}
		}
		if a.Ask(t.Context(), denied("last.example.com")) || !strings.Contains(u.said[len(u.said)-1], "1024 questions were answered") {
			t.Errorf("said is %q", u.said)
		}
	})
}

func TestWhoLeavesWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, a := newUser()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if a.Ask(ctx, denied("a.example.com")) {
			t.Error("who left passes")
		}
		<-u.asked // the question stands all the same: the client may come back
		u.answers <- Once
		synctest.Wait()
		if !a.Ask(t.Context(), denied("a.example.com")) {
			t.Error("the answer is lost")
		}
	})
}

// What no rule can allow is not asked about, and a yes that comes to nothing is none.
func TestOnlyWhatAYesCouldOpenIsAskedAbout(t *testing.T) {
	_, a := newUser()
	for what, r := range map[string]*record.Record{
		"names that differ":      {Direction: record.Egress, Dialled: "a.example.com", SNI: "b.example.com", Port: 443, Sniffed: policy.ClientHello, Verdict: record.Denied, Reason: refusal.NameMismatch},
		"a name of the mesh":     {Direction: record.Egress, Dialled: "a.mesh.local", SNI: "a.mesh.local", Port: 443, Sniffed: policy.ClientHello, Verdict: record.Denied, Reason: refusal.MeshName},
		"Sluice's own addresses": {Direction: record.Egress, Dialled: "198.19.0.1", Port: 22, Sniffed: policy.Opaque, Verdict: record.Denied, Reason: refusal.NoRule},
		"multicast":              {Direction: record.Egress, Dialled: "224.0.0.1", Port: 22, Sniffed: policy.Opaque, Verdict: record.Denied, Reason: refusal.NoRule},
		"a hidden name":          {Direction: record.Egress, Dialled: "a.example.com", SNI: "a.example.com", Port: 443, Sniffed: policy.ClientHello, Verdict: record.Denied, Reason: refusal.EncryptedHello},
		"a bad message":          {Direction: record.Egress, Dialled: "a.example.com", Port: 80, Sniffed: policy.HTTP, Verdict: record.Denied, Reason: refusal.RequestMalformed},
	} {
		if a.Ask(t.Context(), r) || len(a.known) > 0 { // it would wait for ever
			t.Errorf("%s is asked about", what)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		u, a := newUser()
		a.config.Allow = func([]api.Object, bool) error { return errors.New("the rules do not compile") }
		one := ask(a, denied("a.example.com"))
		<-u.asked
		u.answers <- Always
		if <-one || !slices.Contains(u.said, "a.example.com:443 stays denied: the rules do not compile") {
			t.Errorf("said is %q", u.said)
		}
	})
}

// No yes opens a private or metadata address without saying so.
func TestAQuestionAboutASpecialAddressSaysWhatItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for address, says := range map[string]string{"169.254.169.254": "169.254", "10.1.2.3": "10.1.2.3/32 is not a public address"} {
			u, a := newUser()
			one := ask(a, &record.Record{Direction: record.Egress, Dialled: address, Port: 22, Sniffed: policy.Opaque, Verdict: record.Denied, Reason: refusal.NoRule})
			if q := <-u.asked; len(q.Warnings) != 1 || !strings.Contains(q.Warnings[0], says) || !strings.Contains(q.Warnings[0], "a yes opens it") {
				t.Errorf("%s: the question is %+v", address, q)
			}
			u.answers <- No
			<-one
		}
	})
}

// What the command chose is shown so that it paints nothing.
func TestAQuestionShowsNothingThatPaints(t *testing.T) {
	a := New(Config{Program: "cu\x1b[31mrl\n" + strings.Repeat("x", 5000)})
	q := a.words(&record.Record{Dialled: "a\x1b]0;.example.com\r\n", Port: 443}, &advice.Needs{})
	for _, text := range []string{q.Program, q.Destination} {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) || len(text) > 2000 {
			t.Errorf("%q is shown", text)
		}
	}
}
