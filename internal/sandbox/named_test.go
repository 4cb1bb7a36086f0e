package sandbox

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheSocketsThatTheOwnerNamedAreReachedAndNoOther(t *testing.T) {
	o, hidden := newOutside(t), newOutside(t)
	o.listen(t, unix.SOCK_STREAM, o.path("named"))
	o.listen(t, unix.SOCK_STREAM, o.path("other"))
	hidden.listen(t, unix.SOCK_STREAM, hidden.path("agent"))
	hidden.listen(t, unix.SOCK_STREAM, hidden.path("other"))
	if err := os.Symlink(hidden.path("agent"), o.path("link")); err != nil {
		t.Fatal(err)
	}
	for _, unsupervised := range []bool{false, true} {
		p := newPlace(t, Config{
			Command: []string{"named", o.folder, hidden.folder}, Mask: []string{hidden.folder},
			Unix: []string{o.path("named"), o.path("link")}, Unsupervised: unsupervised,
		})
		output, exit := p.run(t)
		want := `named "outside" <nil>
link "outside" <nil>
masked "outside" <nil>
other "" connection refused
masked other "" no such file or directory
`
		if exit != 0 || output != want {
			t.Errorf("unsupervised %v: exit %d\n%s", unsupervised, exit, output)
		}
	}
	// It is the file that was named: the command can give its name to another.
	output, _ := newPlace(t, Config{Command: []string{"renaming", o.folder}, Unix: []string{o.path("named")}}).run(t)
	if output != "named \"\" connection refused, other \"outside\" <nil>\n" {
		t.Error(output)
	}
}

func namedRole(args []string) int {
	for _, try := range [][2]string{
		{"named", args[0] + "/named"}, {"link", args[0] + "/link"}, {"masked", args[1] + "/agent"},
		{"other", args[0] + "/other"}, {"masked other", args[1] + "/other"},
	} {
		said, err := dial(unix.SOCK_STREAM, try[1])
		fmt.Printf("%s %q %v\n", try[0], said, err)
	}
	return 0
}

func renamingRole(args []string) int {
	err := unix.Renameat2(unix.AT_FDCWD, args[0]+"/named", unix.AT_FDCWD, args[0]+"/other", unix.RENAME_EXCHANGE)
	if err != nil {
		fmt.Println(err)
	}
	named, namedErr := dial(unix.SOCK_STREAM, args[0]+"/named")
	other, otherErr := dial(unix.SOCK_STREAM, args[0]+"/other")
	fmt.Printf("named %q %v, other %q %v\n", named, namedErr, other, otherErr)
	return 0
}

func TestASocketThatCannotBeNamedIsRefused(t *testing.T) {
	for name, paths := range map[string][]string{
		"not an absolute path":      {"s"},
		"no such file or directory": {"/does/not/exist"},
		"not a socket":              {"/etc/passwd"},
		"at most 32 are taken":      make([]string, MaxUnix+1),
	} {
		s, err := New(t.Context(), Config{Command: []string{"true"}, Unix: paths})
		if err == nil {
			s.Kill()
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
