package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A folder s that holds a secret d/k is mounted a second time, as w/b.
var layerCases = map[string]struct {
	files   func(home string) Files
	want    string // what the command finds
	refused string
}{
	"hide s, w read-only": {
		files: func(home string) Files {
			return Files{Hide: []Hidden{{Path: home + "/s"}}, Views: []View{{Path: home + "/w", Mode: ViewReadOnly}}}
		},
		want: "nothing",
	},
	"hide the name that lies deeper, and what is around the other read-only": {
		files: func(home string) Files {
			return Files{Hide: []Hidden{{Path: home + "/w/b/d"}}, Views: []View{{Path: home + "/s", Mode: ViewReadOnly}}}
		},
		want: "nothing",
	},
	"hide s, its other name read-only": {
		files: func(home string) Files {
			return Files{Hide: []Hidden{{Path: home + "/s"}}, Views: []View{{Path: home + "/w/b", Mode: ViewReadOnly}}}
		},
		refused: "another name of",
	},
	"hide s, what is in its other name read-only": {
		files: func(home string) Files {
			return Files{Hide: []Hidden{{Path: home + "/s"}}, Views: []View{{Path: home + "/w/b/d", Mode: ViewReadOnly}}}
		},
		refused: "lies in another name of",
	},
	"hide s, and see d of it": {
		files: func(home string) Files {
			return Files{Hide: []Hidden{{Path: home + "/s"}}, Views: []View{{Path: home + "/s/d", Mode: ViewReadOnly}}}
		},
		want: "s/d/k read",
	},
	"hide s for the sake of what is in its other name": {
		files: func(home string) Files {
			return Files{Hide: []Hidden{{Path: home + "/s", Quiet: true}}, Views: []View{{Path: home + "/w/b/d", Mode: ViewShown}}}
		},
		want: "w/b/d/k read w/b/d/k written",
	},
	"s read-only, and w writable in what is read-only": {
		files: func(home string) Files {
			return Files{Views: []View{{Path: home, Mode: ViewReadOnly}, {Path: home + "/s", Mode: ViewReadOnly}, {Path: home + "/w", Mode: ViewWritable}}}
		},
		want: "s/d/k read w/b/d/k read",
	},
}

func TestEachNameOfWhatIsHiddenIsALayerOfItsOwn(t *testing.T) {
	needSandbox(t)
	for name, c := range layerCases {
		t.Run(name, func(t *testing.T) {
			home := makeUserHome(t, "s/d/k", "w/b/empty")
			output := strings.TrimSpace(roleInMounts(t, "layers", home, name))
			if c.refused != "" && strings.Contains(output, c.refused) && strings.HasPrefix(output, home+"/w/b") {
				return
			}
			if output != c.want || c.refused != "" {
				t.Errorf("it says %q, want %q%s", output, c.want, c.refused)
			}
		})
	}
}

// What a container is given in /run/secrets is hidden there too, and the rest stays. The
// folders in which placeholders could be made are all hidden, but for those of the system.
func TestASecretOfAContainerIsHidden(t *testing.T) {
	needSandbox(t)
	home := makeUserHome(t, ".aws/none")
	if err := os.Symlink("/run/secrets/aws", home+"/.aws/credentials"); err != nil {
		t.Fatal(err)
	}
	if output := roleInMounts(t, "run-secrets", home); output != "other\n" {
		t.Errorf("it reads %q", output)
	}
}

func runSecretsRole(args []string) int {
	home := args[0]
	if err := errors.Join(
		unix.Mount("tmpfs", "/run", "tmpfs", 0, ""), os.Mkdir("/run/secrets", 0o755),
		os.WriteFile("/run/secrets/aws", []byte("secret\n"), 0o644), os.WriteFile("/run/secrets/other", []byte("other\n"), 0o644),
	); err != nil {
		fmt.Println(err)
		return 1
	}
	files := Files{Hide: []Hidden{{Path: home + "/.aws/credentials"}}}
	for _, folder := range []string{"/mnt", "/media", "/srv"} {
		if _, err := os.Stat(folder); err == nil {
			files.Hide = append(files.Hide, Hidden{Path: folder, Quiet: true})
		}
	}
	return runIn(Config{Command: []string{"sh", "-c", `cat "$1/.aws/credentials" /run/secrets/*; ls /srv`, "sh", home}, Dir: "/", Files: files})
}

func layersRole(args []string) int {
	home, c := args[0], layerCases[args[1]]
	if err := unix.Mount(filepath.Join(home, "s"), filepath.Join(home, "w/b"), "", unix.MS_BIND, ""); err != nil {
		fmt.Println(err)
		return 1
	}
	script := `cd "$1"; found=nothing
		for file in s/d/k w/b/d/k; do
			grep -q secret $file && found="${found#nothing} $file read" && (: >> $file) && found="$found $file written"
		done 2>/dev/null
		echo $found`
	return runIn(Config{Command: []string{"sh", "-c", script, "sh", home}, Dir: "/", Files: c.files(home)})
}

// runIn runs a command for a role, whose output is that of the command or why there is none.
func runIn(config Config) int {
	config.Env = os.Environ()
	s, err := New(context.Background(), config)
	if err == nil {
		err = s.Start(nil)
	}
	if err != nil {
		fmt.Println(err)
		return 0
	}
	exit, err := s.Wait()
	if err != nil {
		fmt.Println(err)
	}
	return exit
}
