package inspect

import (
	"context"

	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
)

// Census is who is there, whoever counts them.
type Census interface {
	Now() registry.Moment
}

// DataPlane is what the endpoints ask of the connected proxies; the push server
// is one.
type DataPlane interface {
	// Workloads lists every workload whose proxy is connected, in any order. The
	// caller keeps the slice.
	Workloads() []WorkloadStatus
	// Snapshot is what the workload's proxy acknowledged; nil while it has none.
	// It is shared and never changes.
	Snapshot(namespace, instance string) *wire.Snapshot
	// Flows asks the proxies, calls accepted, and hands past flows to emit, or with
	// query.Open those that are open, oldest first, and with query.Follow each new one
	// until ctx ends or emit fails. It returns emit's error, or nil; an error before accepted says why nobody was
	// asked.
	Flows(ctx context.Context, query FlowQuery, accepted func(), emit func(record.Record) error) error
	// Flow finds one that some proxy's ring still holds. An error says that not all
	// proxies could be asked, and none of the others had it.
	Flow(ctx context.Context, id record.ID) (found record.Record, ok bool, err error)
}

// Past is what workloads ran before.
type Past interface {
	// Snapshot is what a version said; the error says why that is not known any more. It is
	// shared and never changes.
	Snapshot(version string) (*wire.Snapshot, error)
	// Workload is what a workload was when it last ran.
	Workload(instance string) (workload wire.Workload, ok bool)
}

// Compiler compiles the current rules for a workload that need not be connected.
type Compiler interface {
	SnapshotFor(workload wire.Workload) (*wire.Snapshot, error)
}
