package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/cavaliergopher/cpio"
)

// The kernel makes entries in order, and no folder by itself.
func TestAnImageHasEachFolderBeforeWhatIsInIt(t *testing.T) {
	var b bytes.Buffer
	i := &image{archive: cpio.NewWriter(&b), made: make(map[string]bool)}
	i.folder("a", 0o1777)
	i.text("a/b/text", "hello")
	i.link("a/b/link", "text")
	i.text("a/empty", "")
	if err := i.archive.Close(); i.err != nil || err != nil {
		t.Fatal(i.err, err)
	}
	want := []struct {
		name, content string
		mode          cpio.FileMode
	}{
		{"a", "", cpio.TypeDir | 0o1777}, {"a/b", "", cpio.TypeDir | 0o755}, {"a/b/text", "hello", cpio.TypeReg | 0o644},
		{"a/b/link", "text", cpio.TypeSymlink | 0o777}, {"a/empty", "", cpio.TypeReg | 0o644},
	}
	r := cpio.NewReader(&b)
	for _, w := range want {
		h, err := r.Next()
		if err != nil {
			t.Fatal(w.name, err)
		}
		content, err := io.ReadAll(r)
		if h.Linkname != "" {
			content = []byte(h.Linkname)
		}
		if err != nil || h.Name != w.name || h.Mode != w.mode || string(content) != w.content {
			t.Errorf("%s %v %q, %v; want %+v", h.Name, h.Mode, content, err, w)
		}
	}
	if h, err := r.Next(); err != io.EOF {
		t.Errorf("there is more: %v, %v", h, err)
	}
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	i := &image{archive: cpio.NewWriter(io.Discard), made: make(map[string]bool)}
	i.file("bin/sluice", 0o755, "/no/such/file")
	i.text("etc/more", "text")
	if i.err == nil {
		t.Error("no error")
	}
}
