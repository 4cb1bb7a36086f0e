package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTheSocketsOfTheMachineAreFoundInItsLists(t *testing.T) {
	list := `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 1 /run/docker.sock
0000000000000000: 00000002 00000000 00010000 0001 01 2 @/tmp/.X11-unix/X0
0000000000000000: 00000002 00000000 00010000 0001 01 3 /tmp/.X11-unix/X0
0000000000000000: 00000003 00000000 00000000 0001 03 4 /tmp/.X11-unix/X0
0000000000000000: 00000002 00000000 00000000 0002 01 5
0000000000000000: 00000002 00000000 00010000 0001 01 6 /tmp/with space/s
0000000000000000: 00000002 00000000 00010000 0001 01 7 relative
`
	paths, whole, err := socketPaths(strings.NewReader(list))
	if want := []string{"/tmp/.X11-unix/X0", "/tmp/with space/s"}; !slices.Equal(paths, want) || !whole || err != nil {
		t.Errorf("%q, %v, %v; want %q", paths, whole, err, want)
	}
	mounts := `22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:21 /docker.sock /srv/with\040space.sock rw - tmpfs tmpfs rw
24 22 0:22 /export/s /mnt/s rw - nfs4 server:/ rw
`
	all, err := parseMounted(mounts)
	bound := boundPaths(all)
	if want := []string{"/srv/with space.sock"}; !slices.Equal(bound, want) || err != nil {
		t.Errorf("%q, %v; want %q", bound, err, want)
	}
}

func TestAMountIsFoundWhateverItsFolderIsCalled(t *testing.T) {
	for _, name := range []string{"plain", `with\040space`, "with\u00a0blank", "with\u0085line", `a\040-\040b`, "-"} {
		line := "23 22 0:21 /from /srv/" + name + " rw shared:3 - tmpfs none rw\n"
		all, err := parseMounted(line)
		if err != nil || len(all) != 1 {
			t.Errorf("%q: %v, %v", line, all, err)
			continue
		}
		want := mounted{id: "23", device: "0:21", root: "/from", point: "/srv/" + strings.ReplaceAll(name, `\040`, " "), own: "rw", kind: "tmpfs", options: "rw"}
		if all[0] != want {
			t.Errorf("%q is %+v, want %+v", line, all[0], want)
		}
	}
	for _, line := range []string{"\n", "23 22 0:21 /from /srv rw\n", "23 22 0:21 /from /srv - tmpfs none rw\n", "23 22 0:21 /from /srv rw - tmpfs\n"} {
		if all, err := parseMounted(line); err == nil {
			t.Errorf("%q is taken for %+v", line, all)
		}
	}
}

func TestAListOfSocketsIsReadUpToItsBound(t *testing.T) {
	line := fmt.Sprintf("0: 2 0 10000 1 1 1 /%s\n", strings.Repeat("x", 100))
	paths, whole, err := socketPaths(strings.NewReader(strings.Repeat(line, maxSocketList/len(line)+2)))
	if whole || err != nil || len(paths) > 2 { // the last one is cut
		t.Errorf("%d paths, whole %v, %v", len(paths), whole, err)
	}
}
