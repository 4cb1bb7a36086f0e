package run

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/asking"
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/rulefile"
	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/internal/wire"
)

// maxRuleBytes bounds a file of rules that answers are added to, and those that are held
// in memory while questions are asked.
const maxRuleBytes = 4 << 20

// asks is a run whose denials are asked about (--ask): the rules as they were read at its
// start, and those that were answered since.
type asks struct {
	*asking.Terminal
	asker *asking.Asker
	kept  *os.File // the file that "always" writes to; nil: there is none
	name  string   // of it
	why   error    // why there is none although one is named

	mu      sync.Mutex // held while rules are compiled and swapped in
	config  *Config
	swap    func(*wire.Snapshot, *snapshot.Snapshot) // nil before the run has begun
	unkept  []api.Object                             // answered always, and not written to a file
	answers int
	prefix  string // of the names of those rules, which no file has
}

// newAsks reads the rules for good, opens the file that answers are kept in, and takes the
// terminal over.
func newAsks(c *Config) (*asks, error) {
	a := &asks{config: c, prefix: "asked-" + strings.ToLower(rand.Text()[:10]) + "-"}
	if err := a.holdRules(c); err != nil {
		return nil, fmt.Errorf("--ask: %w", err)
	}
	a.asker = asking.New(asking.Config{
		Program: filepath.Base(c.Command[0]), For: advice.Options{Namespace: c.Workload.Namespace, Labels: c.Workload.Labels},
		Domain: names.MustParse(compile.DefaultDomain),
		Prompt: func(ctx context.Context, q asking.Question) (asking.Answer, error) {
			defer a.RestoreOnPanic()
			return a.Prompt(ctx, q)
		},
		Allow: func(rules []api.Object, always bool) error {
			defer a.RestoreOnPanic()
			return a.allow(rules, always)
		},
		Denied: func(text string) { fmt.Fprintf(c.Stderr, "sluice: %s\n", text) },
	})
	return a, nil
}

// holdRules keeps the rules in memory: what the command does to their files while it runs
// must not count when an answer has them compiled anew.
func (a *asks) holdRules(c *Config) error {
	held := make(map[string][]byte)
	for _, name := range c.Rules.Files {
		text, err := a.hold(c, name)
		if err != nil {
			return fmt.Errorf("read the rules: %w", err)
		}
		held[name] = text
		if name != rulefile.StandardInput {
			a.name = name
		}
	}
	if c.followed == nil {
		c.Rules.Open = func(name string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(held[name])), nil }
	}
	if slices.Contains(c.Rules.Files, rulefile.StandardInput) {
		c.Rules.Input = &again{text: held[rulefile.StandardInput]}
	}
	if a.name != "" {
		a.kept, a.why = openKept(a.name)
	}
	return nil
}

// openKept opens the file that answers are written to, before the command can put another
// in its place.
func openKept(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", name))
	}
	return file, nil
}

func (a *asks) hold(c *Config, name string) ([]byte, error) {
	from := c.Rules.Input
	if name != rulefile.StandardInput {
		open := c.Rules.Open
		if open == nil {
			open = func(name string) (io.ReadCloser, error) { return os.Open(name) }
		}
		file, err := open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, maxRuleBytes+1))
	if err == nil && len(text) > maxRuleBytes {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxRuleBytes)
	}
	return text, err
}

// again is a text that is read from its beginning after each end.
type again struct {
	text []byte
	at   int
}

func (r *again) Read(b []byte) (int, error) {
	if r.at == len(r.text) {
		r.at = 0
		return 0, io.EOF
	}
	n := copy(b, r.text[r.at:])
	r.at += n
	return n, nil
}

// takeTerminal takes the terminal over: those of the standard streams that are terminals
// become the command's own.
func (a *asks) takeTerminal(c *Config) error {
	mark := strings.ToLower(rand.Text()[:4])
	terminal, err := asking.Open(mark, c.Stderr)
	if err != nil {
		return fmt.Errorf("--ask: %w", err)
	}
	a.Terminal = terminal
	found := false
	for i, stream := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if _, err := unix.IoctlGetTermios(int(stream.Fd()), unix.TCGETS); err == nil {
			c.streams[i], found = terminal.Command, true
		}
	}
	if !found {
		return errors.New("--ask: neither standard input, output nor error is a terminal")
	}
	if c.Stderr == io.Writer(os.Stderr) && c.streams[2] != nil {
		c.Stderr = terminal
	}
	if c.RunAs != nil {
		if err := terminal.Command.Chown(c.RunAs.UID, -1); err != nil {
			return fmt.Errorf("--ask: give the terminal to the command's user: %w", err)
		}
	}
	fmt.Fprintf(terminal, "sluice [%s]: questions begin like this line, which the command does not see\n", mark)
	if a.why != nil {
		fmt.Fprintf(terminal, "sluice: what is answered with always is shown after the command, for it cannot be written to the rules: %v\n", a.why)
	}
	return nil
}

// begin lets answers count.
func (a *asks) begin(swap func(*wire.Snapshot, *snapshot.Snapshot)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.swap = swap
}

// end gives the terminal back; nothing is asked any more. It may be called again.
func (a *asks) end() {
	if a.Terminal != nil {
		a.Terminal.Close()
	}
	if a.kept != nil {
		a.kept.Close()
	}
}

// allow puts rules in force that were answered.
func (a *asks) allow(rules []api.Object, always bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.swap == nil {
		return errors.New("the command is not running")
	}
	before := a.config.Rules.More
	more := slices.Clone(before)
	for _, rule := range rules {
		a.answers++
		rule.Metadata.Name = fmt.Sprintf("%s%d", a.prefix, a.answers)
		more = append(more, rule)
	}
	a.config.Rules.More = more
	inForce, compiled, err := a.config.compile()
	if err != nil {
		a.config.Rules.More = before
		return err
	}
	a.swap(inForce, compiled)
	switch {
	case !always:
	case a.kept == nil:
		a.unkept = append(a.unkept, rules...)
	default:
		if err := a.keep(rules); err != nil {
			fmt.Fprintf(a.config.Stderr, "sluice: the answer counts for this run and could not be written to the rules: %v\n", err)
			a.unkept = append(a.unkept, rules...)
		}
	}
	return nil
}

// keep adds rules to the end of the file.
func (a *asks) keep(rules []api.Object) error {
	text, err := io.ReadAll(io.NewSectionReader(a.kept, 0, maxRuleBytes+1))
	if err != nil || len(text) > maxRuleBytes {
		return errors.Join(err, fmt.Errorf("%s cannot be read, or is larger than %d bytes", a.name, maxRuleBytes))
	}
	there, err := api.Decode(a.name, bytes.NewReader(text))
	if err != nil {
		return err
	}
	rules = slices.Clone(rules)
	for i := range rules {
		base := rules[i].Metadata.Name
		for n := 2; slices.ContainsFunc(there, func(o api.Object) bool { return o.Metadata.Name == rules[i].Metadata.Name }); n++ {
			rules[i].Metadata.Name = fmt.Sprintf("%s-%d", base, n)
		}
		there = append(there, rules[i])
	}
	var out bytes.Buffer
	if len(bytes.TrimSpace(text)) > 0 {
		out.WriteString("\n---\n")
	}
	out.WriteString("# Answered with always when it was asked about (sluice run --ask).\n")
	if err := api.WriteYAML(&out, rules); err != nil {
		return err
	}
	if _, err := api.Decode(a.name, io.MultiReader(bytes.NewReader(text), bytes.NewReader(out.Bytes()))); err != nil {
		return err // it would spoil the file
	}
	_, err = a.kept.Write(out.Bytes())
	return err
}

// sayUnkept says what was answered with always and is kept nowhere.
func (a *asks) sayUnkept(w io.Writer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.unkept) == 0 {
		return
	}
	fmt.Fprintln(w, "sluice: answered with always, and not written to a file of --rules; put this into one:")
	api.WriteYAML(w, a.unkept) // nobody may listen
}

// suspend stops us whenever the command was stopped, and lets it go on when we do.
func (a *asks) suspend(box *sandbox.Sandbox, stopped <-chan struct{}, ended <-chan struct{}) {
	for {
		select {
		case <-stopped:
			a.Suspend(stopToo)
			passOn(box, unix.SIGCONT)
		case <-ended:
			return
		}
	}
}
