package server

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sluice.dev/sluice/internal/control/flowstore"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/pause"
	"sluice.dev/sluice/internal/record"
)

// flowsFile, in the data folder, is what was closed lately and in the last 30 days.
const flowsFile = "flows.db"

// collectEvery is the time after which proxies are asked what they closed.
const collectEvery = 5 * time.Second

// keeper keeps what proxies closed, and answers from it.
type keeper struct {
	store   *flowstore.Store
	collect func(context.Context, func(*record.Batch) error) error
	log     *slog.Logger

	mu      sync.Mutex // one collects at a time
	failing bool
}

// run keeps what is closed until ctx ends.
func (k *keeper) run(ctx context.Context) {
	failing := false
	for pause.For(ctx, collectEvery) == nil {
		_ = k.gather(ctx) // it was logged
		err := k.store.Prune()
		if err != nil && !failing {
			k.log.Warn("old flows are not forgotten", "error", err)
		}
		failing = err != nil
	}
}

// gather asks the proxies once. It logs when that begins to fail.
func (k *keeper) gather(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.collect(ctx, k.store.Add)
	if err != nil && !k.failing && ctx.Err() == nil {
		k.log.Warn("what proxies closed is not kept yet: they keep it, within their bounds", "error", err)
	}
	k.failing = err != nil
	return err
}

// Summary implements inspect.Keeper.
func (k *keeper) Summary(ctx context.Context, query inspect.SummaryQuery) (*inspect.Summary, error) {
	missing := ""
	if err := k.gather(ctx); err != nil {
		missing = err.Error()
	}
	got, err := k.store.Summary(query.Since, inspect.MaxSummary, query.SumFilter)
	if err != nil {
		return nil, err
	}
	return &inspect.Summary{From: got.From, Sums: got.Sums, More: got.More, Total: got.Total, Lost: got.Lost, ForgottenTo: got.ForgottenTo, Missing: missing}, nil
}

// Kept implements inspect.Keeper: the oldest first, as flows are shown.
func (k *keeper) Kept(ctx context.Context, n int, filter record.Filter) ([]record.Record, error) {
	_ = k.gather(ctx) // what it did not get is in the rings of the proxies
	flows, err := k.store.Flows(n, filter)
	slices.Reverse(flows)
	return flows, err
}

// Flow implements inspect.Keeper.
func (k *keeper) Flow(id record.ID) (record.Record, bool, error) { return k.store.Flow(id) }
