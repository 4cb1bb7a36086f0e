package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestIncludesOfSSHsConfigurationAreReadAsSSHReadsThem(t *testing.T) {
	text := `# Include /not/this
  InClude "/with a blank/*.conf" relative.conf	~/below # a comment
Include=/by/a/sign
include = '/in/quotes' /with\ a\ backslash
Host *
	Include below/a/host "unterminated
IncludeMe /not/this
Include
Include ~other/config
SendEnv Include /not/this`
	want := []string{"/with a blank/*.conf", "/etc/ssh/relative.conf", "/home/u/below", "/by/a/sign", "/in/quotes", "/with a backslash", "/etc/ssh/below/a/host", "/etc/ssh/unterminated"}
	if got := sshIncludes(text, "/etc/ssh", "/home/u"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := sshIncludes("Include ~/below", "/etc/ssh", ""); len(got) != 0 {
		t.Errorf("~ in the machine's configuration leads to %q", got)
	}
}

// sshTree is a configuration of the test, whose files count as root's.
func sshTree(t *testing.T, files map[string]string) (c *sshConfig, root string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(strings.ReplaceAll(text, "ROOT", root)), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	c = &sshConfig{home: filepath.Join(root, "home"), roots: func(uint32) bool { return true }, seen: make(map[string]bool)}
	t.Cleanup(c.close)
	return c, root
}

func (c *sshConfig) found(root string) (names []string) {
	for _, path := range c.paths {
		name, _ := filepath.Rel(root, path)
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestFilesThatSSHIncludesAreFoundWhereverTheyLie(t *testing.T) {
	c, root := sshTree(t, map[string]string{
		"ssh_config":            "Include ssh_config.d/*.conf\nInclude ROOT/missing",
		"ssh_config.d/a.conf":   "Include ROOT/elsewhere/policy",
		"ssh_config.d/b.conf":   "Include ../ssh_config.d/a.conf ssh_config.d/b.conf", // again, and itself
		"ssh_config.d/c.txt":    "",
		"ssh_config.d/all.conf": "",
		"share/policy":          "",
		"share/linked":          "",
		"home/.ssh/config":      "Include own ~/of-home",
		"home/.ssh/own":         "",
		"home/of-home":          "",
	})
	if err := errors.Join(
		os.Mkdir(filepath.Join(root, "elsewhere"), 0o755),
		os.Symlink("../share/policy", filepath.Join(root, "elsewhere/policy")),
		os.Symlink(filepath.Join(root, "share/linked"), filepath.Join(root, "ssh_config.d/l.conf")),
		os.Symlink("nowhere", filepath.Join(root, "ssh_config.d/n.conf")),
		os.Mkdir(filepath.Join(root, "ssh_config.d/folder.conf"), 0o755),
		os.Chmod(filepath.Join(root, "ssh_config.d/all.conf"), 0o666), // ssh refuses it outside too
	); err != nil {
		t.Fatal(err)
	}
	c.find(filepath.Join(root, "ssh_config"))
	want := []string{"home/.ssh/config", "home/.ssh/own", "home/of-home", "share/linked", "share/policy", "ssh_config.d/a.conf", "ssh_config.d/b.conf"}
	if got := c.found(root); !slices.Equal(got, want) || c.note() != "" {
		t.Errorf("%q, want %q; %s", got, want, c.note())
	}
}

func TestPatternsThatSSHIncludesAreFollowedUntilABound(t *testing.T) {
	files := map[string]string{"home/.ssh/config": "Include ROOT/many/*/*/*/*\nInclude ROOT/after/*", "after/policy": ""}
	for i := range 70 {
		for j := range 70 {
			files[fmt.Sprintf("many/%d/%d/f", i, j)] = ""
		}
	}
	c, root := sshTree(t, files)
	c.find(filepath.Join(root, "none"))
	if c.named > maxSSHNames+70*70 || c.note() == "" || slices.Contains(c.found(root), "after/policy") {
		t.Errorf("%d names looked at, found %q; %q", c.named, c.found(root), c.note())
	}
	c, root = sshTree(t, map[string]string{"home/.ssh/config": "Include ROOT/c*/?/[a-z]/x\\*", "conf/1/b/x*": "", "conf/1/B/x*": "", "conf/1/b/xy": ""})
	c.find(filepath.Join(root, "none"))
	if got, want := c.found(root), []string{"conf/1/b/x*", "home/.ssh/config"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWhatIsTakenOfSSHsConfigurationIsBounded(t *testing.T) {
	many := func(n int, name func(i int) string) map[string]string {
		files := map[string]string{"ssh_config": "Include d/*"}
		for i := range n {
			files[name(i)] = ""
		}
		return files
	}
	deep := map[string]string{"ssh_config": "Include ROOT/0"}
	for i := range maxSSHDepth + 2 {
		deep[fmt.Sprint(i)] = fmt.Sprintf("Include ROOT/%d", i+1)
	}
	for name, test := range map[string]struct {
		files   map[string]string
		nobodys bool // no file is root's
		most    int
	}{
		"files":         {files: many(maxSSHFiles+1, func(i int) string { return fmt.Sprintf("d/%03d", i) }), most: maxSSHFiles},
		"files to read": {files: many(maxSSHRead, func(i int) string { return fmt.Sprintf("d/%03d", i) }), nobodys: true},
		"names":         {files: many(maxSSHFiles-1, func(i int) string { return fmt.Sprintf("d/%03d%s", i, strings.Repeat("x", 200)) }), most: maxSSHPaths / 200},
		"depth":         {files: deep, most: maxSSHDepth},
		"size":          {files: map[string]string{"ssh_config": "Include d/*", "d/large": strings.Repeat("#", maxSSHConfig+1)}},
	} {
		t.Run(name, func(t *testing.T) {
			c, root := sshTree(t, test.files)
			if test.nobodys {
				c.roots = func(uint32) bool { return false }
			}
			c.find(filepath.Join(root, "ssh_config"))
			if len(c.files) > test.most || len(c.files) != len(c.paths) || !strings.Contains(c.note(), "ssh may refuse") {
				t.Errorf("%d files, want at most %d; %q", len(c.files), test.most, c.note())
			}
		})
	}
}
