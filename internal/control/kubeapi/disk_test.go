package kubeapi

import (
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// onDisk is how many bytes the files of a folder take on disk.
func onDisk(t *testing.T, folder string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestTheStoreOfTenRulesTakesAtMostTenMegabytesOnDisk(t *testing.T) {
	const most = 10 << 20
	data := t.TempDir()
	s := start(t, data, acceptAll)
	for i := range 10 {
		s.create(t, fmt.Sprintf("rule-%d", i), fmt.Sprintf("h%d.example.com", i))
	}
	if took := onDisk(t, data); took > most {
		t.Errorf("%d bytes, at most %d", took, most)
	} else {
		t.Logf("ten rules: %d bytes", took)
	}
	if testing.Short() {
		return
	}
	// Past two snapshots, after which etcd removes what of its log is not needed.
	var writers sync.WaitGroup
	for rule := range 10 {
		writers.Go(func() {
			path := fmt.Sprintf("%s/rule-%d", egressRules, rule)
			for i := range (2*etcdSnapshot + 500) / 10 {
				change := fmt.Sprintf(`{"metadata":{"labels":{"try":"%d"}}}`, i)
				if code, body := s.do(t, http.MethodPatch, path, "application/merge-patch+json", change); code != http.StatusOK {
					t.Errorf("change %d: %d %s", i, code, body)
				}
			}
		})
	}
	writers.Wait()
	if took := onDisk(t, data); took > 2*most {
		t.Errorf("after many changes: %d bytes, at most %d", took, 2*most)
	} else {
		t.Logf("after many changes: %d bytes", took)
	}
}
