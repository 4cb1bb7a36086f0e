package main

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/test/datafolder"
)

func TestTheLongestWorkloadKeepsItsAddressesOverARestart(t *testing.T) {
	d := &daemon{log: slog.New(slog.DiscardHandler), data: t.TempDir()}
	long := strings.Repeat("a", 63)
	w := wire.Workload{Namespace: long, Instance: long + "-" + long + "/4096"}
	table, save := d.names(w)
	told, err := table.Tell(names.MustParse("www.example.com"), dnsserver.Exactly)
	if err != nil {
		t.Fatal(err)
	}
	save()
	again, _ := d.names(w)
	if n, ok := again.Pin(told.V4); !ok || n.String() != "www.example.com" {
		t.Errorf("after a restart %v stands for %v (%v)", told.V4, n, ok)
	}
	other, _ := d.names(wire.Workload{Namespace: "default", Instance: w.Instance})
	if n, ok := other.Pin(told.V4); ok {
		t.Errorf("for another workload it stands for %v", n)
	}
}

func TestTheNamesThatTheFirstBuildKeptAreKnown(t *testing.T) {
	d := &daemon{log: slog.New(slog.DiscardHandler), data: filepath.Join(datafolder.First(t), "proxy")}
	table, save := d.names(wire.Workload{Namespace: "default", Instance: "details-v2/1"})
	for name, address := range datafolder.FirstNames {
		if got, ok := table.Lookup(netip.MustParseAddr(address)); !ok || got.String() != name {
			t.Errorf("%s stands for %q, %v; not for %s", address, got, ok, name)
		}
	}
	if _, err := table.Tell(names.MustParse("later.example.com"), dnsserver.Exactly); err != nil {
		t.Fatal(err)
	}
	save()
	again, _ := d.names(wire.Workload{Namespace: "default", Instance: "details-v2/1"})
	if got := again.Stats().Names; got != len(datafolder.FirstNames)+1 {
		t.Errorf("after a restart %d names are known", got)
	}
}

func TestAFileOfALaterReleaseIsLeftAsItIs(t *testing.T) {
	d := &daemon{log: slog.New(slog.DiscardHandler), data: t.TempDir()}
	w := wire.Workload{Namespace: "default", Instance: "details-v1/1"}
	path := namesFile(d.data, w)
	const later = "sluice-names-7\nin another way"
	if err := os.WriteFile(path, []byte(later), 0o600); err != nil {
		t.Fatal(err)
	}
	table, save := d.names(w)
	if _, err := table.Tell(names.MustParse("www.example.com"), dnsserver.Exactly); err != nil {
		t.Fatal(err)
	}
	save()
	if err := forgetNames(d.data, time.Now().Add(10*keepNames)); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != later {
		t.Errorf("it is %q now, %v", content, err)
	}
}

func TestFilesOfWorkloadsThatAreLongGoneAreRemoved(t *testing.T) {
	folder, now := t.TempDir(), time.Now()
	ages := map[string]time.Duration{"names-new": time.Hour, "names-old": keepNames + time.Minute, "snapshots": 10 * keepNames}
	for name, age := range ages {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := forgetNames(folder, now); err != nil {
		t.Fatal(err)
	}
	for name := range ages {
		if _, err := os.Stat(filepath.Join(folder, name)); (err == nil) != (name != "names-old") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
