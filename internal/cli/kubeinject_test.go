//go:build unix

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestKubeInjectWritesNoFileInThePlaceOfALinkOrAPipe(t *testing.T) {
	folder := t.TempDir()
	in := filepath.Join(folder, "pod.yaml")
	file, link, nowhere, fifo := filepath.Join(folder, "file"), filepath.Join(folder, "link"), filepath.Join(folder, "nowhere"), filepath.Join(folder, "fifo")
	for _, err := range []error{
		os.WriteFile(in, []byte("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"), 0o600),
		os.WriteFile(file, nil, 0o600), os.Symlink("file", link), os.Symlink("missing", nowhere), syscall.Mkfifo(fifo, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	inject := func(to string) (code int, said string) {
		var out, stderr strings.Builder
		code = execute(t.Context(), []string{"kube-inject", "-f", in, "-o", to}, &out, &stderr)
		return code, out.String() + stderr.String()
	}
	for path, want := range map[string]os.FileMode{link: os.ModeSymlink, fifo: os.ModeNamedPipe, nowhere: os.ModeSymlink} {
		code, said := inject(path)
		if refused := path != link; refused != (code != 0) {
			t.Errorf("%s: ends with %d and says %s", path, code, said)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode().Type() != want {
			t.Errorf("%s is now %v, %v", path, info.Mode(), err)
		}
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o644 || info.Size() == 0 {
		t.Errorf("the file behind the link: %v, %v", info, err)
	}
	if _, said := inject("-"); !strings.Contains(said, "kind: Service") {
		t.Errorf("to standard output: %s", said)
	}
}
