package sandbox

// Enforcement says what holds, in words to be printed.
type Enforcement struct {
	// Level is "sandbox", as in design and wire.
	Level string
	// Text is one sentence.
	Text string
	// Notes say what does not hold here, one sentence each.
	Notes []string
	// Lowered are those of Notes that do hold where a machine gives everything: they are
	// to be said unasked.
	Lowered []string
	// SharedCgroup says why the command has no cgroup of its own; "" where it has one. It
	// lowers nothing: then it makes no cgroup namespace, or one that shows nothing that it
	// may write.
	SharedCgroup string
}

// LevelSandbox is the level at which the command has no link to the outside.
const LevelSandbox = "sandbox"

// Enforcement says what holds for the command of this sandbox.
func (s *Sandbox) Enforcement() Enforcement {
	e := Enforcement{
		Level: LevelSandbox,
		Text:  "the command has no network but the proxy, which runs outside of its namespaces",
		Notes: append([]string(nil), s.notes...), Lowered: append([]string(nil), s.lowered...),
	}
	if e.SharedCgroup = s.group.sharedBecause(); e.SharedCgroup != "" {
		e.Notes = append(e.Notes, "the command has no cgroup of its own ("+e.SharedCgroup+"): it reads those of its caller, and where it could write them it makes no cgroup namespace, which bwrap --unshare-all needs")
	}
	switch {
	case s.uid == 0 && s.ownDevices:
		e.Notes = append(e.Notes, "the command keeps uid 0: its network and devices are isolated, root's files are not; run it as another user to isolate those")
	case s.uid == 0:
		e.Notes = append(e.Notes, "the command keeps uid 0: its network is isolated, root's files and devices are not; run it as another user to isolate those")
	}
	return e
}
