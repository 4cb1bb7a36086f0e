package server

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/control/flowstore"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/pause"
	"sluice.dev/sluice/internal/record"
)

// flowsFile, in the data folder, is what was closed lately and in the last 30 days.
const flowsFile = "flows.db"

// versionsFile, in the data folder, is what workloads ran in the last 24 hours.
const versionsFile = "versions.jsonl"

// collectEvery is the time after which proxies are asked what they closed.
const collectEvery = 5 * time.Second

// keeper keeps what proxies closed, and answers from it.
type keeper struct {
	store   *flowstore.Store
	collect func(context.Context, func(...*record.Batch) error) error
	log     *slog.Logger

	begun atomic.Uint64 // how many have begun to ask the proxies
	turn  chan struct{} // has space for one: who asks them now, and has what follows
	ended uint64        // the last that began and was not given up, of begun
	last  error         // of that
}

func newKeeper(store *flowstore.Store, collect func(context.Context, func(...*record.Batch) error) error, log *slog.Logger) *keeper {
	return &keeper{store: store, collect: collect, log: log, turn: make(chan struct{}, 1)}
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

// gather asks the proxies once, or waits for one that began after it was called: of many
// readers who wait one asks for all. It logs when that begins to fail.
func (k *keeper) gather(ctx context.Context) error {
	before := k.begun.Load()
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if k.ended > before {
		return k.last
	}
	this := k.begun.Add(1)
	err := k.collect(ctx, k.store.Add)
	if ctx.Err() != nil {
		return err // it is the reader who gave up, and not the proxies
	}
	if err != nil && k.last == nil {
		k.log.Warn("what proxies closed is not kept yet: they keep it, within their bounds", "error", err)
	}
	k.ended, k.last = this, err
	return err
}

// Summary implements inspect.Keeper.
func (k *keeper) Summary(ctx context.Context, query inspect.SummaryQuery) (*inspect.Summary, error) {
	missing := ""
	if err := k.gather(ctx); err != nil {
		missing = err.Error()
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
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
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	flows, err := k.store.Flows(n, filter)
	slices.Reverse(flows)
	return flows, err
}

// Flow implements inspect.Keeper.
func (k *keeper) Flow(id record.ID) (record.Record, bool, error) { return k.store.Flow(id) }
