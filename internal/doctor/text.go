package doctor

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteText writes the report for who asked.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(what, format string, arguments ...any) {
		fmt.Fprintf(t, "%s\t%s\n", what, fmt.Sprintf(format, arguments...))
	}
	line("sluice", "%s, %s/%s, %s, uid %d", r.Version, r.OS, r.Arch, r.Go, r.UID)
	for _, p := range r.Programs {
		line(p.Name, "%s", cmp.Or(p.Version, p.Problem))
	}
	if len(r.Variables) > 0 {
		line("variables", "%s", strings.Join(r.Variables, ", "))
	}
	r.writeMachine(line)
	if r.Resolver != nil {
		line("resolver", "%s", r.Resolver.text())
	}
	for _, f := range r.Folders {
		line(f.Name, "%s", f.text())
	}
	line("server", "%s", r.Server.text())
	line("sandbox", "%s", r.Sandbox.text())
	for _, sentence := range r.Sandbox.Lowered {
		line("", "lower: %s", sentence)
	}
	for _, sentence := range r.Sandbox.Notes {
		line("", "%s", sentence)
	}
	for i, sentence := range r.Todo {
		what := ""
		if i == 0 {
			what = "for more"
		}
		line(what, "%s", sentence)
	}
	return t.Flush()
}

func (r *Resolver) text() string {
	text := cmp.Or(r.Problem, strings.Join(r.Servers, ", "))
	if r.Stub {
		text += ", a stub on this machine's loopback, which the proxy asks and a sandbox does not reach"
	}
	return text
}

func (f *Folder) text() string {
	switch {
	case f.Problem != "":
		return f.Problem
	case !f.Exists:
		return f.Path + ", not there: it is made when it is needed"
	}
	return fmt.Sprintf("%s, of uid %d, mode %s", f.Path, f.UID, f.Mode)
}

func (s *Server) text() string {
	proxy := "no sluice-proxy takes sandboxes beside it"
	if s.Proxy {
		proxy = "a sluice-proxy takes sandboxes beside it"
	}
	if s.Answers {
		return fmt.Sprintf("%s, version %s; %s", s.Address, s.Version, proxy)
	}
	return cmp.Or(s.said, s.Problem)
}

func (s *Sandbox) text() string {
	if !s.Available {
		return s.Problem
	}
	return "level " + s.Level + ": " + s.Text
}
