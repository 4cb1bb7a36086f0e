package kubeapi

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/deploy/crds"
)

// filesIn lists what is in a folder, with its size and time.
func filesIn(t *testing.T, folder string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		fmt.Fprintln(&all, path, info.Size(), info.ModTime().UnixNano())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestAStoreOfALaterReleaseIsRefusedAndNotTouched(t *testing.T) {
	data := t.TempDir()
	s := start(t, data, acceptAll)
	s.create(t, "googleapis", "*.googleapis.com")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, storeFile)
	if b, err := os.ReadFile(path); err != nil || string(b) != fmt.Sprintf(`{"format":%d}`, storeFormat) {
		t.Errorf("the format is noted as %q, %v", b, err)
	}
	for content, want := range map[string]string{
		`{"format":7,"cipher":"of some kind"}`: "the store of rules has format 7; this Sluice reads formats 1 to " + strconv.Itoa(storeFormat) + ": upgrade this Sluice, or choose another data folder with --data-dir; nothing was changed",
		`{"format`:                             "is not valid JSON",
		`[]`:                                   "remove the file where no later release used this folder",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		before := filesIn(t, data)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		server, err := Start(ctx, Config{DataDir: data, Socket: s.socket, Definitions: crds.Files, Peers: acceptAll, Log: testLog()})
		cancel()
		if err == nil {
			t.Errorf("%s: it was opened", content)
			_ = server.Stop()
		} else if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", content, err)
		}
		if after := filesIn(t, data); after != before {
			t.Errorf("%s: before\n%s\nafter\n%s", content, before, after)
		}
	}
	if err := os.Remove(path); err != nil { // as the first release left it
		t.Fatal(err)
	}
	again := start(t, data, acceptAll)
	if code, body := again.do(t, "GET", egressRules+"/googleapis", "", ""); code != 200 || !strings.Contains(body, "*.googleapis.com") {
		t.Errorf("the rule: %d %s", code, body)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the format is not noted: %v", err)
	}
}
