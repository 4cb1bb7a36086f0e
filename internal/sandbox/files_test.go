package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// makeUserHome makes a home with secrets, each in a file "secret".
func makeUserHome(t *testing.T, files ...string) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "home")
	for _, file := range append(files, "work/open") {
		path := filepath.Join(home, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("the secret of "+file+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return home
}

func openedOf(p *place) (paths []string) {
	for _, o := range p.TakeOpened() {
		paths = append(paths, o.Path)
	}
	slices.Sort(paths)
	return paths
}

func TestAHiddenFileIsEmptyAndItsOpeningIsToldOnce(t *testing.T) {
	home := makeUserHome(t, ".npmrc", ".m2/settings.xml", ".config/browser/Local State", ".config/browser/Cookies", ".config/other", "untouched")
	p := newPlace(t, Config{
		Command: []string{"sh", "-c", `cd "$1"; cat .npmrc; cat .npmrc; cat .m2/settings.xml; echo; ls .config/browser; cat ".config/browser/Local State" .config/other work/open
			echo forged > .npmrc; echo forged > .config/browser/new; rm -f .npmrc; mv .npmrc other; stat -c '%a %u' .npmrc`, "sh", home},
		Files: Files{Hide: []Hidden{
			{Path: home + "/.npmrc"}, {Path: home + "/.m2/settings.xml", Empty: "<settings/>"}, {Path: home + "/untouched"},
			{Path: home + "/.config/browser", With: []string{"Local State", "not there"}}, {Path: home + "/gone"}, {Path: home + "/.npmrc/below"},
		}},
	})
	output, _ := p.run(t)
	var said []string
	for _, line := range lines(output) {
		if !strings.Contains(line, ": ") { // errors of the shell
			said = append(said, line)
		}
	}
	want := []string{"<settings/>", "Local State", "the secret of .config/other", "the secret of work/open", fmt.Sprintf("600 %d", os.Geteuid())}
	if !slices.Equal(said, want) {
		t.Errorf("it sees %q of %s", said, output)
	}
	if got, want := openedOf(p), []string{home + "/.config/browser", home + "/.m2/settings.xml", home + "/.npmrc"}; !slices.Equal(got, want) {
		t.Errorf("opened: %q, want %q", got, want)
	}
	if content, err := os.ReadFile(home + "/.npmrc"); string(content) != "the secret of .npmrc\n" {
		t.Errorf("outside it holds %q, %v", content, err)
	}
}

// waysToFile are attempts to read a hidden file, home/.ssh/id_rsa, with a folder work beside.
func waysToFileRole(args []string) int {
	home := args[0]
	os.Chdir(home)
	script := `
		mv .ssh work/moved; cat work/moved/id_rsa; mv .ssh/id_rsa .ssh/other; cat .ssh/other
		ln .ssh/id_rsa work/linked; cat work/linked; cp -l .ssh/id_rsa work/copy; cat work/copy
		cat /proc/self/cwd/.ssh/id_rsa /proc/self/root` + home + `/.ssh/id_rsa /proc/1/root` + home + `/.ssh/id_rsa /proc/1/cwd/.ssh/id_rsa
		ln -s ../.ssh/id_rsa work/symbolic; cat work/symbolic
		rm -f .ssh/id_rsa; cat .ssh/id_rsa; mv -T work .ssh; cat .ssh/id_rsa; rmdir .ssh
		[ -n "$ALIAS" ] && cat $ALIAS/home/.ssh/id_rsa $ALIAS/ssh/id_rsa`
	nested := `
		umount .ssh/id_rsa; umount -l .ssh/id_rsa; cat .ssh/id_rsa; umount -l .ssh; cat .ssh/id_rsa
		for how in --bind --rbind; do
			mount $how work /mnt && mv .ssh work/moved; cat /mnt/moved/id_rsa; mv work/moved .ssh; umount /mnt
			for from in / . .ssh .ssh/id_rsa; do mount $how $from /mnt && cat /mnt/id_rsa /mnt/.ssh/id_rsa /mnt` + home + `/.ssh/id_rsa; umount -l /mnt; done
		done
		mount -t overlay overlay -o lowerdir=.:/usr /mnt && cat /mnt/.ssh/id_rsa
		mount -t overlay overlay -o lowerdir=.ssh:/usr /mnt && cat /mnt/id_rsa`
	for _, command := range [][]string{{"sh", "-c", script}, {"unshare", "-Urm", "sh", "-c", nested + script}, {"unshare", "-Um", "sh", "-c", nested + script}} {
		output, _ := exec.Command(command[0], command[1:]...).CombinedOutput()
		if strings.Contains(string(output), "the secret") {
			fmt.Printf("%s: %s\n", command[0], output)
		}
	}
	return 0
}

func TestAHiddenFileIsReachedInNoWay(t *testing.T) {
	home := makeUserHome(t, ".ssh/id_rsa", ".ssh/config")
	p := newPlace(t, Config{Command: []string{"ways-to-file", home}, Files: Files{Hide: []Hidden{{Path: home + "/.ssh/id_rsa"}}}})
	if output, exit := p.run(t); exit != 0 || output != "" {
		t.Errorf("exit %d: %s", exit, output)
	}
	if content, err := os.ReadFile(home + "/.ssh/id_rsa"); string(content) != "the secret of .ssh/id_rsa\n" {
		t.Errorf("outside it holds %q, %v", content, err)
	}
}

func TestAHiddenFileIsHiddenInEveryMountOfIt(t *testing.T) {
	needSandbox(t)
	home := makeUserHome(t, ".ssh/id_rsa")
	if output := roleInMounts(t, "aliased-file", home, t.TempDir()); output != "" {
		t.Error(output)
	}
}

func aliasedFileRole(args []string) int {
	home, alias := args[0], args[1]
	for name, folder := range map[string]string{"home": home, "ssh": home + "/.ssh"} {
		point := filepath.Join(alias, name)
		if err := errors.Join(os.Mkdir(point, 0o755), unix.Mount(folder, point, "", unix.MS_BIND, "")); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	self, _ := os.Executable()
	s, err := New(context.Background(), Config{
		Command: []string{self, home}, Env: append(os.Environ(), roleVariable+"=ways-to-file", "ALIAS="+alias),
		Files: Files{Hide: []Hidden{{Path: home + "/.ssh/id_rsa"}}},
	})
	if err == nil {
		err = s.Start(nil)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	exit, err := s.Wait()
	if err != nil {
		fmt.Println(err)
	}
	return exit
}

func TestAHiddenFileWithAnotherNameLowersTheLevel(t *testing.T) {
	home := makeUserHome(t, ".npmrc")
	if err := os.Link(home+"/.npmrc", filepath.Join(home, "work/copy")); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, Config{Command: []string{"true"}, Files: Files{Hide: []Hidden{{Path: home + "/.npmrc"}}}})
	p.run(t)
	if text := strings.Join(p.Enforcement().Lowered, "\n"); !strings.Contains(text, home+"/.npmrc is hidden, and has another name") {
		t.Errorf("it says %q", text)
	}
}

func TestViewsAreSeenAsTheyAreToBe(t *testing.T) {
	home := makeUserHome(t, ".npmrc", "a/b/c/file", "a/b/other", "docs/file", ".config/gh/hosts.yml", ".config/app/conf")
	p := newPlace(t, Config{
		Dir: home + "/work",
		Command: []string{"sh", "-c", `
			may() { (echo x >> "$2") 2>/dev/null && echo "$1 written" || echo "$1 not written"; }
			may work open; may a ../a/new; may a/b ../a/b/new; may a/b/c ../a/b/c/new; may docs ../docs/file; may home ../new; may config ../.config/app/conf
			cat ../.npmrc ../.config/gh/hosts.yml 2>/dev/null; cat ../.config/app/conf; cd ..; ls -A; ls -A ..`},
		Files: Files{
			Hide: []Hidden{{Path: filepath.Dir(home), Quiet: true}, {Path: home + "/.config/gh/hosts.yml"}, {Path: home + "/.npmrc"}},
			Views: []View{
				{Path: home, Mode: ViewEmpty}, {Path: home + "/work", Mode: ViewShown}, {Path: home + "/docs", Mode: ViewReadOnly},
				{Path: home + "/a", Mode: ViewReadOnly}, {Path: home + "/a/b", Mode: ViewWritable}, {Path: home + "/a/b/c", Mode: ViewReadOnly},
				{Path: home + "/.config", Mode: ViewShown},
			},
		},
	})
	output, _ := p.run(t)
	want := []string{
		"work written", "a not written", "a/b written", "a/b/c not written", "docs not written", "home written", "config written",
		"the secret of .config/app/conf", "x", ".config", "a", "docs", "new", "work", "home",
	}
	if got := lines(output); !slices.Equal(got, want) {
		t.Errorf("it sees %q\nwant    %q", got, want)
	}
	if _, err := os.Stat(home + "/new"); err == nil {
		t.Error("what is written into a folder in memory is outside too")
	}
}

// What makes a tree read-only holds against a user namespace of the command's own.
func TestReadOnlyIsUndoneInNoWay(t *testing.T) {
	needProgram(t, "unshare")
	home := makeUserHome(t, "around/tree/file")
	script := `cd "$1"
		chmod 666 around/tree/file; mount -o remount,rw,bind around/tree; umount around/tree; umount -l around/tree
		mv around work/moved; mv around/tree around/moved; mount --bind work /mnt; mv around work/moved; echo x >> /mnt/moved/tree/file
		mount --rbind around /mnt; mount -o remount,rw,bind /mnt/tree; echo x >> /mnt/tree/file
		for file in around/tree/file work/moved/tree/file around/moved/file; do echo x >> $file; ln $file work/linked; echo x >> work/linked; done; true`
	for _, command := range [][]string{{}, {"unshare", "-Urm"}, {"unshare", "-Um"}} {
		p := newPlace(t, Config{
			Command: append(command, "sh", "-c", script, "sh", home),
			Files:   Files{Views: []View{{Path: home + "/around/tree", Mode: ViewReadOnly}}},
		})
		p.run(t)
		if content, err := os.ReadFile(home + "/around/tree/file"); string(content) != "the secret of around/tree/file\n" {
			t.Errorf("after %q the file holds %q, %v", command, content, err)
		}
	}
}

func TestMoreFilesThanOneMessageHoldsAreHidden(t *testing.T) {
	folder := t.TempDir()
	var files Files
	for i := range MaxHidden {
		path := filepath.Join(folder, strings.Repeat("x", 100)+fmt.Sprint(i))
		if i%8 == 0 {
			if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		files.Hide = append(files.Hide, Hidden{Path: path})
	}
	p := newPlace(t, Config{Command: []string{"sh", "-c", "cat * | wc -c"}, Dir: folder, Files: files})
	if output, _ := p.run(t); strings.TrimSpace(output) != "0" {
		t.Errorf("it reads %s bytes", output)
	}
	if got := len(openedOf(p)); got != MaxHidden/8 {
		t.Errorf("%d of them are told", got)
	}
	files.Hide = append(files.Hide, Hidden{Path: "/one/more"})
	if _, err := New(t.Context(), Config{Command: []string{"true"}, Files: files}); err == nil || !strings.Contains(err.Error(), "at most 512") {
		t.Errorf("one more: %v", err)
	}
}

// Each has its bound, and they are filled one after the other.
func TestFoldersInMemoryTakeHalfOfItTogether(t *testing.T) {
	needSandbox(t)
	folder := newOutside(t).folder
	config := Config{Command: []string{"stat", "-f", "-c", "%b %S"}}
	for _, name := range []string{"home", "tmp", "var"} {
		path := filepath.Join(folder, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		config.Files.Views = append(config.Files.Views, View{Path: path, Mode: ViewEmpty})
		config.Command = append(config.Command, path)
	}
	var machine unix.Sysinfo_t
	if err := unix.Sysinfo(&machine); err != nil {
		t.Fatal(err)
	}
	output, exit := newPlace(t, config).run(t)
	var sum uint64
	for _, line := range lines(output) {
		var blocks, size uint64
		if n, err := fmt.Sscan(line, &blocks, &size); n != 2 || blocks == 0 { // 0 is no bound at all
			t.Fatalf("exit %d: %q, %v", exit, output, err)
		}
		sum += blocks * size
	}
	if half := uint64(machine.Totalram) * uint64(machine.Unit) / 2; len(lines(output)) != 3 || sum > half {
		t.Errorf("%d bytes, more than %d: %q", sum, half, output)
	}
}
