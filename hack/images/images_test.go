package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// roleVariable makes the test binary write an image instead of testing.
const roleVariable = "IMAGES_TEST_UMASK"

func TestMain(m *testing.M) {
	if mask := os.Getenv(roleVariable); mask != "" {
		var umask int
		fmt.Sscanf(mask, "%o", &umask)
		syscall.Umask(umask)
		digest, err := images[0].write(os.Args[1], "amd64", "images.test/sluice-proxy:1", os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(digest)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func sum(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

func TestOneProgramGivesOneArchiveWhoeverWritesItWhereAndWhen(t *testing.T) {
	program := bytes.Repeat([]byte("a program "), 100_000)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	var sums []string
	for i, umask := range []string{"022", "077", "000"} {
		dir, err := os.MkdirTemp("", strings.Repeat("d", i+1))
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path, tool, archive := filepath.Join(dir, "program"), filepath.Join(dir, "tool"), filepath.Join(dir, "image.tar")
		for file, data := range map[string][]byte{path: program, tool: self} {
			if err := errors.Join(os.WriteFile(file, data, 0o600), os.Chmod(file, 0o755-os.FileMode(i)), os.Chtimes(file, time.Unix(int64(i), 0), time.Unix(int64(i+1)*1e8, 0))); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(tool, path, archive)
		cmd.Env = append(os.Environ(), roleVariable+"="+umask)
		if os.Geteuid() == 0 { // a user of each
			if err := os.Chown(dir, 2000+i, 2000+i); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{path, tool} {
				if err := os.Chown(file, 2000+i, 2000+i); err != nil {
					t.Fatal(err)
				}
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(2000 + i), Gid: uint32(2000 + i)}}
		}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "sha256:") {
			t.Fatalf("%v: %s", err, out)
		}
		sums = append(sums, sum(t, archive))
		if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
			t.Errorf("it leaves %v", left)
		}
	}
	if sums[0] != sums[1] || sums[0] != sums[2] {
		t.Errorf("the archives are %v", sums)
	}
}

// Two copies of the source, in folders of other names, with other times and modes.
func TestOneSourceGivesOneImageInEveryFolder(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var sums []string
	for i, name := range []string{"a", "another-folder"} {
		source := filepath.Join(t.TempDir(), name)
		for _, part := range []string{"go.mod", "go.sum", "api", "cmd/sluice-proxy", "internal", "rules"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(source, part)), 0o755); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("cp", "-r", filepath.Join(root, part), filepath.Join(source, part)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		if i > 0 {
			if out, err := exec.Command("find", source, "-exec", "touch", "-d", "2001-02-03", "{}", "+").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		out := filepath.Join(t.TempDir(), "images")
		var said strings.Builder
		if err := run([]string{"-source", source, "-out", out, "-arch", runtime.GOARCH, "-only", "sluice-proxy", "-tag", "1.0"}, &said); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum(t, filepath.Join(out, "sluice-proxy-"+runtime.GOARCH+".tar")))
		if i == 0 {
			checkImage(t, filepath.Join(out, "sluice-proxy-"+runtime.GOARCH+".tar"), strings.Fields(said.String())[0])
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("the archives are %v", sums)
	}
}

// checkImage reads an archive as whoever imports it does.
func checkImage(t *testing.T, archive, digest string) {
	t.Helper()
	folder := t.TempDir()
	if out, err := exec.Command("tar", "-xf", archive, "-C", folder).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest.String() != digest || manifest.Manifests[0].Annotations["io.containerd.image.name"] != "sluice.dev/sluice-proxy:1.0" {
		t.Fatalf("the index is %+v, %v", manifest, err)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil || config.Config.User != "1337:1337" || config.Config.Entrypoint[0] != "/sluice-proxy" || config.OS != "linux" || config.Architecture != runtime.GOARCH {
		t.Errorf("the config is %+v, %v", config, err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	files := tar.NewReader(content)
	header, err := files.Next()
	if err != nil || header.Name != "sluice-proxy" || header.Mode != 0o555 || header.Uid != 0 {
		t.Fatalf("%+v, %v", header, err)
	}
	program := filepath.Join(t.TempDir(), "program")
	file, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(file, files); err != nil {
		t.Fatal(err)
	}
	file.Close()
	if out, err := exec.Command(program, "--version").Output(); err != nil || !strings.Contains(string(out), "1.0") {
		t.Errorf("the program in it says %q, %v", out, err)
	}
}

func TestAnImageThatThereIsNotIsRefused(t *testing.T) {
	if err := run([]string{"-source", "../..", "-only", "nothing", "-out", t.TempDir()}, io.Discard); err == nil || !strings.Contains(err.Error(), `there is no image "nothing"`) {
		t.Errorf("got %v", err)
	}
}
