package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestALinkThatTheCommandCanReplaceAndAFileOfTwoNamesAreSaid(t *testing.T) {
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(home, "disk/share/data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, link := range [][2]string{{"disk", "first"}, {"../" + filepath.Base(home) + "/first/share", "second"}} {
		if err := os.Symlink(link[0], filepath.Join(home, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(data, "secret")
	if err := os.WriteFile(secret, []byte("the secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, "second/data")
	if got, want := linksTo(path), []string{home + "/second", home + "/first"}; !slices.Equal(got, want) {
		t.Errorf("the links are %q, want %q", got, want)
	}
	said := func(uid int) string { return strings.Join(newHolder(uid, false).limitsOf(path), "\n") }
	for _, link := range []string{"/second", "/first"} {
		want := "the way to " + path + " leads over the link " + home + link + ", which the command can replace"
		if got := said(os.Getuid()); !strings.Contains(got, want) {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
	if got := newHolder(os.Getuid(), false).limitsOf(data); len(got) != 0 {
		t.Errorf("of a folder without a link it says %q", got)
	}
	if err := os.Link(secret, filepath.Join(home, "other")); err != nil {
		t.Fatal(err)
	}
	if got := newHolder(os.Getuid(), false).limitsOf(data); len(got) != 1 || !strings.HasPrefix(got[0], secret+" is hidden, and has another name") {
		t.Errorf("of a file of two names it says %q", got)
	}
	const nobody = 65534
	if got := said(nobody); strings.Contains(got, "can replace") {
		t.Errorf("of links that the command cannot replace it says %q", got)
	}
}

func TestLinksInACircleEnd(t *testing.T) {
	home := t.TempDir()
	if err := os.Symlink("a", filepath.Join(home, "a")); err != nil {
		t.Fatal(err)
	}
	if got := linksTo(filepath.Join(home, "a/b")); len(got) < maxWayLinks {
		t.Errorf("%d links", len(got))
	}
}

func TestThatNotAllOfAFolderWasLookedAtIsSaid(t *testing.T) {
	folder := t.TempDir()
	for i := range maxLooked + 1 {
		if err := os.WriteFile(filepath.Join(folder, strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := newHolder(os.Getuid(), false).limitsOf(folder); len(got) != 1 || !strings.HasPrefix(got[0], folder+" is hidden, and not each file in it was looked at") {
		t.Errorf("it says %q", got)
	}
}
