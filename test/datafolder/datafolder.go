// Package datafolder unpacks data folders as earlier builds left them, for tests
// that open a copy with this one. Nothing but a test imports it.
package datafolder

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "embed"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// first is the data folder of the first build that was landed, from before formats
// were noted. Its server held the seven objects of FirstRules; its proxy, named
// "proxy", served details-v2/1, which asked for the names of FirstNames in their
// order; then all three were ended. Files keep their holes: etcd's log is 64 MB of
// little content.
//
//go:embed first.tar.gz
var first []byte

// FirstRules lists the rules of First.
var FirstRules = []string{
	"egress-rule/default/googleapis", "egress-rule/default/networks", "route-rule/default/details-v2",
	"egress-policy/default/books", "egress-policy/sluice-system/everywhere", "mesh-service/default/reviews", "mesh-config/default",
}

// FirstNames lists the names that the workload of First knows, each with its
// synthetic address.
var FirstNames = map[string]string{
	"www.googleapis.com": "198.19.0.1", "www.example.com": "198.19.0.2",
	"a.example.net": "198.19.0.3", "status.example.com": "198.19.0.4",
}

// First returns a copy of that folder, which is the test's own.
func First(t testing.TB) string {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "data")
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return folder
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, filepath.FromSlash(header.Name))
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			err = write(path, archive, header.Size)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// write makes a file with holes where there are zeros.
func write(path string, from io.Reader, size int64) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); at < size; {
		n, err := io.ReadFull(from, block[:min(int64(len(block)), size-at)])
		if err != nil {
			return err
		}
		if !bytes.Equal(block[:n], zeros[:n]) {
			if _, err := file.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
	}
	return errors.Join(file.Truncate(size), file.Close())
}
