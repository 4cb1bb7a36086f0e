package hidden

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/rules"
)

// folder makes a folder with files, by their paths and what they hold.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// hides are the paths below home that a plan hides, sorted.
func hides(home string, plan *Plan) (paths []string) {
	for _, h := range plan.Files.Hide {
		relative, _ := filepath.Rel(home, h.Path)
		paths = append(paths, relative)
	}
	slices.Sort(paths)
	return paths
}

func none(string) string { return "" }

func TestSecretsAreHiddenAndWhatACommandNeedsIsNot(t *testing.T) {
	home := folder(t, map[string]string{
		".aws/credentials": "x", ".aws/config": "[default]\nregion=eu", ".kube/config": "x", ".netrc": "x", ".gitconfig": "[user]",
		".npmrc": "registry=https://npm.example.com/\n", ".docker/config.json": `{"credHelpers":{"a":"b"},"auths":{}}`,
		".m2/settings.xml": "<settings><servers><server><password>x</password></server></servers></settings>",
		".ssh/id_ed25519":  "x", ".ssh/id_ed25519.pub": "x", ".ssh/work": "x", ".ssh/known_hosts": "x", ".ssh/known_hosts.old": "x", ".ssh/config": "x",
		".ssh/config.d/a": "x", ".ssh/keys/id_rsa": "x", ".gnupg/private-keys-v1.d/A.key": "x", ".gnupg/pubring.kbx": "x",
		".config/google-chrome/Local State": "x", ".config/google-chrome-beta": "a file", ".config/gh/hosts.yml": "x", ".config/gh/config.yml": "x",
		".password-store/.gpg-id": "x", ".cargo/credentials.toml": "x", ".cargo/config.toml": "x", ".local/share/keyrings/login.keyring": "x",
		"moved/gh/hosts.yml": "x", "moved/git/credentials": "x", "cargo/credentials.toml": "x",
	})
	plan, err := Make(Config{List: rules.HiddenFiles(), Homes: []string{home, "/does/not/exist"}, Workdir: "/", Getenv: func(name string) string {
		return map[string]string{"XDG_CONFIG_HOME": home + "/moved", "CARGO_HOME": home + "/cargo/", "GNUPGHOME": "relative"}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		".aws/credentials", ".cargo/credentials.toml", ".config/gh/hosts.yml", ".config/google-chrome", ".config/google-chrome-beta",
		".gnupg/private-keys-v1.d/A.key", ".kube/config", ".local/share/keyrings", ".m2/settings.xml", ".netrc", ".password-store",
		".ssh/id_ed25519", ".ssh/keys/id_rsa", ".ssh/work", "cargo/credentials.toml", "moved/gh/hosts.yml", "moved/git/credentials",
	}
	if got := hides(home, plan); !slices.Equal(got, want) {
		t.Errorf("hidden: %q\nwant    %q", got, want)
	}
	if what, instead := plan.Reason(home + "/.ssh/work"); what != "a private key" || !strings.Contains(instead, "SSH_AUTH_SOCK") {
		t.Errorf("a key: %q, %q", what, instead)
	}
}

// A file is hidden for what it holds, or where that cannot be told.
func TestAFileThatMayHoldASecretIsLookedAt(t *testing.T) {
	for text, want := range map[string]bool{
		"":                            false,
		"registry=https://r.example/": false,
		"//r.example/:_authToken=abc": true,
		"@my:registry=https://r.example/\nalways-auth=true": false,
		"//r.example/:_password = abc":                      true,
		"proxy=http://u:p@proxy.example/":                   true,
		"//r.example/:key=abc":                              true,
		strings.Repeat("#", maxLooked):                      false,
		strings.Repeat("#", maxLooked+1):                    true,
	} {
		home := folder(t, map[string]string{".npmrc": text})
		plan, err := Make(Config{List: rules.HiddenFiles(), Homes: []string{home}, Workdir: "/", Getenv: none})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(plan.Files.Hide) == 1; got != want {
			t.Errorf("%.60q: hidden %v", text, got)
		}
	}
}

func TestThePathsOfFlagsAddUp(t *testing.T) {
	home := folder(t, map[string]string{".npmrc": "_auth=x", ".ssh/id_rsa": "x", ".password-store/a/b": "x", "project/a/b": "x", "data/f": "x", ".config/gh/hosts.yml": "x"})
	if err := os.Symlink(home+"/.npmrc", home+"/project/link"); err != nil {
		t.Fatal(err)
	}
	view := func(path string, mode sandbox.ViewMode) sandbox.View {
		return sandbox.View{Path: home + path, Mode: mode}
	}
	for name, c := range map[string]struct {
		wishes Wishes
		hides  []string
		views  []sandbox.View
	}{
		"nothing":              {Wishes{}, []string{".config/gh/hosts.yml", ".npmrc", ".password-store", ".ssh/id_rsa"}, nil},
		"one is shown":         {Wishes{Show: []string{"/.npmrc"}}, []string{".config/gh/hosts.yml", ".password-store", ".ssh/id_rsa"}, nil},
		"by a link":            {Wishes{Show: []string{"/project/link"}}, []string{".config/gh/hosts.yml", ".password-store", ".ssh/id_rsa"}, nil},
		"one that is not here": {Wishes{Show: []string{"/.vault-token", "/.ssh/other"}}, []string{".config/gh/hosts.yml", ".npmrc", ".password-store", ".ssh/id_rsa"}, nil},
		"a folder of some":     {Wishes{Show: []string{"/.ssh", "/.config"}}, []string{".npmrc", ".password-store"}, nil},
		"a part of one":        {Wishes{Show: []string{"/.password-store/a"}}, []string{".config/gh/hosts.yml", ".npmrc", ".password-store", ".ssh/id_rsa"}, []sandbox.View{view("/.password-store/a", sandbox.ViewShown)}},
		"one more":             {Wishes{Hide: []string{"/data"}}, []string{".config/gh/hosts.yml", ".npmrc", ".password-store", ".ssh/id_rsa", "data"}, nil},
		"the folder of some":   {Wishes{Hide: []string{"/.config"}}, []string{".config", ".npmrc", ".password-store", ".ssh/id_rsa"}, nil},
		"read-only but one": {Wishes{ReadOnly: []string{""}, Writable: []string{"/project"}}, []string{".config/gh/hosts.yml", ".npmrc", ".password-store", ".ssh/id_rsa"},
			[]sandbox.View{view("", sandbox.ViewReadOnly), view("/project", sandbox.ViewWritable)}},
	} {
		full := func(paths []string) (all []string) {
			for _, path := range paths {
				all = append(all, home+path)
			}
			return all
		}
		plan, err := Make(Config{
			List: rules.HiddenFiles(), Homes: []string{home}, Getenv: none, Workdir: home + "/project",
			Wishes: Wishes{Hide: full(c.wishes.Hide), Show: full(c.wishes.Show), ReadOnly: full(c.wishes.ReadOnly), Writable: full(c.wishes.Writable)},
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := hides(home, plan); !slices.Equal(got, c.hides) || !reflect.DeepEqual(plan.Files.Views, c.views) {
			t.Errorf("%s: hidden %q, views %v", name, got, plan.Files.Views)
		}
	}
}

func TestOfTheHomeTheWorkingFolderAloneIsSeen(t *testing.T) {
	home := folder(t, map[string]string{".npmrc": "_auth=x", "project/f": "x", "bin/tool": "x", ".config/gh/hosts.yml": "x"})
	plan, err := Make(Config{
		List: rules.HiddenFiles(), Homes: []string{home}, Getenv: none, Workdir: home + "/project",
		Wishes: Wishes{WorkdirOnly: true, ReadOnly: []string{home + "/bin"}, Show: []string{home + "/.config"}},
		Given:  []Given{{home + "/bin/tool", fs.ModeSocket}, {home + "/gone", fs.ModeNamedPipe}},
	})
	if err != nil {
		t.Fatal(err)
	}
	given := sandbox.View{Path: home + "/bin/tool", Mode: sandbox.ViewShown, Type: fs.ModeSocket} // the sandbox looks
	if views := plan.Files.Views; views[len(views)-1] != given {
		t.Errorf("views: %+v", views)
	}
	for path, want := range map[string]bool{
		home: false, home + "/.npmrc": false, home + "/project/f": true, home + "/bin/tool": true, home + "/.config/x": true,
		"/home/other/f": false, "/usr/bin/env": true, "/tmp/f": false,
	} {
		if got := plan.Sees(path); got != want {
			t.Errorf("%s: seen %v", path, got)
		}
	}
	if got := hides(home, plan); slices.Contains(got, ".npmrc") || slices.Contains(got, ".config/gh/hosts.yml") {
		t.Errorf("hidden in what is empty or shown: %q", got)
	}
}

func TestAWishThatCannotBeIsRefusedByTheNameOfItsFlag(t *testing.T) {
	home := folder(t, map[string]string{".npmrc": "_auth=x", "project/f": "x", "sluice/db": "x", ".password-store/x/y": "x"})
	for _, c := range []struct {
		wishes  Wishes
		workdir string
		want    string
	}{
		{Wishes{Hide: []string{home + "/nothing"}}, "/project", "--hide: "},
		{Wishes{ReadOnly: []string{home + "/nothing"}}, "/project", "--ro: "},
		{Wishes{Writable: []string{home + "/nothing"}}, "/project", "--rw: "},
		{Wishes{Show: []string{home + "/nothing"}}, "/project", "--show: "},
		{Wishes{Show: []string{home + "/project"}}, "/project", "--show " + home + "/project: it is not hidden"},
		{Wishes{Writable: []string{home + "/project"}}, "/project", "it lies in nothing that is read-only or hidden"},
		{Wishes{Hide: []string{home + "/project/f"}, Show: []string{home + "/project/../project/f"}}, "/project", "names the same path"},
		{Wishes{Hide: []string{home + "/project/f", home + "/project/f"}}, "/project", "names the same path"},
		{Wishes{Show: []string{home + "/sluice/db"}}, "/project", "which is hidden from every command"},
		{Wishes{Hide: []string{home + "/sluice"}}, "/project", "which is hidden from every command"},
		{Wishes{ReadOnly: []string{"/"}}, "/project", "--ro /: name folders below it"},
		{Wishes{ReadOnly: []string{"/proc/sys"}}, "/project", "the sandbox has a /proc of its own"},
		{Wishes{Hide: []string{"/dev/null"}}, "/project", "the sandbox has a /dev of its own"},
		{Wishes{Hide: []string{home}}, "/project", "the command's working folder " + home + "/project lies in it"},
		{Wishes{}, "/.password-store/x", "working folder " + home + "/.password-store/x is hidden"},
		{Wishes{WorkdirOnly: true}, "", "--workdir-only: the working folder " + home + " is one that is hidden"},
		{Wishes{WorkdirOnly: true, Hide: []string{home}}, "/project", "--workdir-only hides it already"},
		{Wishes{WorkdirOnly: true, Show: []string{home}}, "/project", "--workdir-only hides it"},
	} {
		_, err := Make(Config{
			List: rules.HiddenFiles(), Homes: []string{home}, Getenv: none, Workdir: home + c.workdir, Masked: []string{home + "/sluice"}, Wishes: c.wishes,
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.wishes, err, c.want)
		}
	}
}

func TestAFileThatAVariableNamesIsHiddenAsTheOneInWhosePlaceItIs(t *testing.T) {
	home := folder(t, map[string]string{".kube/config": "x", "k/one": "x", "k/t*o": "x", "npm/rc": "registry=https://r.example/", "npm/login": "_auth=x", "google.json": "x", "hf/token": "x"})
	variables := map[string]string{
		"KUBECONFIG": home + "/k/one:relative::" + home + "/k/t*o:" + home + "/k/missing", "GOOGLE_APPLICATION_CREDENTIALS": home + "/google.json", "HF_HOME": home + "/hf",
		"NPM_CONFIG_USERCONFIG": home + "/npm/rc", "npm_config_userconfig": home + "/npm/login", "PIP_CONFIG_FILE": "/dev/null", "NETRC": "/",
	}
	config := Config{List: rules.HiddenFiles(), Homes: []string{home}, Workdir: "/", Getenv: func(name string) string { return variables[name] }}
	plan, err := Make(config)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hides(home, plan), []string{".kube/config", "google.json", "hf/token", "k/one", "k/t*o", "npm/login"}; !slices.Equal(got, want) {
		t.Errorf("hidden: %q\nwant    %q", got, want)
	}
	config.Show = []string{home + "/k/one", home + "/k/missing"}
	if plan, err = Make(config); err != nil || slices.Contains(hides(home, plan), "k/one") {
		t.Errorf("shown: %v", err)
	}
}

// A command may leave such a link for those that come after it.
func TestALinkOfTheListToWhatACommandNeedsIsNamed(t *testing.T) {
	for target, refused := range map[string]bool{"/": true, "": true, "project": true, "/run": true, "vault": false} {
		home := folder(t, map[string]string{"project/f": "x", "vault/f": "x"})
		to := target
		if !filepath.IsAbs(target) {
			to = filepath.Join(home, target)
		}
		link := home + "/.config/op"
		if err := errors.Join(os.Mkdir(home+"/.config", 0o755), os.Symlink(to, link)); err != nil {
			t.Fatal(err)
		}
		_, err := Make(Config{List: rules.HiddenFiles(), Homes: []string{home}, Getenv: none, Workdir: home + "/project"})
		switch {
		case !refused && err != nil:
			t.Errorf("a link to %s: %v", to, err)
		case refused && (err == nil || !strings.HasPrefix(err.Error(), link+" is of those that are hidden") || !strings.Contains(err.Error(), "makes it "+to+",")):
			t.Errorf("a link to %s: %v", to, err)
		}
	}
}

func TestWhatIsHiddenIsBounded(t *testing.T) {
	files := make(map[string]string)
	for i := range sandbox.MaxHidden + 1 {
		files[fmt.Sprintf(".gnupg/private-keys-v1.d/%d.key", i)] = "x"
	}
	config := func(home string) Config {
		return Config{List: rules.HiddenFiles(), Homes: []string{home}, Getenv: none, Workdir: "/"}
	}
	home := folder(t, files)
	_, err := Make(config(home))
	if err == nil || !strings.Contains(err.Error(), "more than 512 files are to be hidden") || !strings.Contains(err.Error(), "--hide "+home+"/.gnupg/private-keys-v1.d") {
		t.Fatalf("%d keys: %v", len(files), err)
	}
	c := config(home)
	c.Hide = []string{home + "/.gnupg/private-keys-v1.d"}
	if _, err := Make(c); err != nil {
		t.Errorf("their folder: %v", err)
	}
	files = make(map[string]string)
	for i := range maxEntries + 1 {
		files[fmt.Sprintf(".ssh/known_hosts.%d", i)] = ""
	}
	home = folder(t, files)
	if _, err := Make(config(home)); err == nil || !strings.Contains(err.Error(), "too many to look for those to hide") {
		t.Errorf("a folder of %d files: %v", len(files), err)
	}
	c = config(folder(t, nil))
	for i := range sandbox.MaxViews + 1 {
		path := fmt.Sprintf("%s/%d", c.Homes[0], i)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		c.ReadOnly = append(c.ReadOnly, path)
	}
	if _, err := Make(c); err == nil || !strings.Contains(err.Error(), "more than 64 paths") {
		t.Errorf("%d views: %v", len(c.ReadOnly), err)
	}
}

// The list costs a look at each of its names when a command starts.
func BenchmarkAHomeWithoutSecrets(b *testing.B) {
	home := b.TempDir()
	for b.Loop() {
		if _, err := Make(Config{List: rules.HiddenFiles(), Homes: []string{home}, Getenv: none, Workdir: "/"}); err != nil {
			b.Fatal(err)
		}
	}
}
