package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/wire"
)

const (
	// saveEvery is how often the synthetic addresses of a workload are written down.
	saveEvery = 2 * time.Second
	// keepNames is for how long after its last change a workload's file of synthetic
	// addresses is kept: twice as long as an address is not given to another name.
	keepNames   = 2 * dnsserver.KeepAnswered
	namesPrefix = "names-"
)

// namesFile is where a workload's synthetic addresses are kept. What a workload
// calls itself may be longer than the name of a file.
func namesFile(folder string, w wire.Workload) string {
	sum := sha256.Sum256([]byte(w.Namespace + "/" + w.Instance))
	return filepath.Join(folder, namesPrefix+hex.EncodeToString(sum[:16]))
}

// names returns a workload's table of synthetic addresses as it was before a
// restart, and what writes it down.
func (d *daemon) names(w wire.Workload) (*dnsserver.Table, func()) {
	table := dnsserver.NewTable(dnsserver.TableConfig{})
	path := namesFile(d.data, w)
	if err := table.Load(path); err != nil {
		d.log.Warn("the synthetic addresses of a workload begin anew", "workload", w.Instance, "error", err)
		if isLater(err) {
			d.log.Warn("the file is left as it is, and the addresses are not kept over a restart", "file", path)
			return table, func() {}
		}
	}
	return table, func() {
		if !table.Changed() {
			return
		}
		if err := table.Save(path); err != nil {
			d.log.Warn("the synthetic addresses of a workload could not be kept", "workload", w.Instance, "error", err)
		}
	}
}

// isLater reports whether a later release wrote the file that an error is about: it
// is not ours to replace or remove.
func isLater(err error) bool {
	var unknown *format.UnknownError
	return errors.As(err, &unknown) && unknown.Newer()
}

// forgetNames removes the files of workloads that have not been here for keepNames:
// each name that a workload was ever given would leave one for ever.
func forgetNames(folder string, now time.Time) error {
	all, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range all {
		if !strings.HasPrefix(entry.Name(), namesPrefix) {
			continue
		}
		info, err := entry.Info()
		if err != nil || now.Sub(info.ModTime()) < keepNames {
			continue // it is gone already, or of use
		}
		path := filepath.Join(folder, entry.Name())
		if isLater(dnsserver.NewTable(dnsserver.TableConfig{}).Load(path)) {
			continue
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}
