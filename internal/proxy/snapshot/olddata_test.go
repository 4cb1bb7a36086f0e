package snapshot

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/test/datafolder"
)

func TestASnapshotThatTheFirstBuildKeptIsRunUntilTheServerIsBack(t *testing.T) {
	store, err := NewStore(filepath.Join(datafolder.First(t), "proxy", "snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := wire.Workload{Service: "details", Version: "v2"}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	s, h := newSource(), NewHolder(HolderConfig{})
	close(s.snapshots) // the server is away
	Follow(t.Context(), FollowConfig{
		Source: s, Holder: h, Builder: new(Builder), View: View{Namespace: "default"}, Store: store, Key: w.ClassKey(),
		Log: slog.New(slog.NewTextHandler(&said, nil)),
	})
	if said.Len() > 0 {
		t.Errorf("it says: %s", &said)
	}
	for _, host := range []string{"www.googleapis.com", "status.example.com"} {
		if got := decide(h.Load(), host).Reason; got != "" {
			t.Errorf("%s: %s", host, got)
		}
	}
	if got := decide(h.Load(), "elsewhere.example.com").Reason; got != refusal.NoRule {
		t.Errorf("elsewhere: %q", got)
	}
}
