// Package inspect serves the /sluice/ endpoints beside the rules and holds what
// they answer, as plain data in its JSON form. The server serves it, the command
// line prints it. It links neither the API server nor etcd, it must build on every
// system that the command line builds on, and it must never decide anything.
package inspect

import (
	"time"

	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
	"sluice.dev/sluice/internal/wire"
)

// Format is the format of every answer, and the only one that this build reads. An
// object says it in its member "format", the stream of flows in the header
// FormatHeader.
//
//	1: the first
//	2: verdict, protocol and treatment of a flow are said in other words
const (
	Format       = 2
	FormatHeader = "Sluice-Format"
)

// Answers is what a client of this build reads.
var Answers = format.Kind{Name: "the answer of sluice-server", Oldest: Format, Newest: Format, Reader: "this sluice"}

// Paths of the endpoints on api.sock. All of them are GET, but for CredentialPath.
const (
	StatusPath  = "/sluice/status"        // Status
	FlowsPath   = "/sluice/flows"         // a stream of record.Record, one JSON object a line; FlowQuery in the query
	KeptPath    = "/sluice/flows/kept"    // as FlowsPath, of those that the server keeps; neither open nor follow
	SummaryPath = "/sluice/flows/summary" // Summary; SummaryQuery in the query
	WhyPath     = "/sluice/why"           // Why; WhyQuery in the query. WhyPath + "/ID": Opened
	VersionPath = "/sluice/version"       // VersionAnswer
	HistoryPath = "/sluice/history"       // History; resource, namespace and name in the query
	// CredentialPath takes a CredentialRequest (POST) and answers with a Credential. It is
	// for processes of this machine alone.
	CredentialPath = "/sluice/credential"
)

// MaxFlows is the largest number of past or open flows that one query is given: the
// whole of the ring.
const MaxFlows = 4096

// Status is the state of the mesh as its server sees it.
type Status struct {
	Format    int              `json:"format"`
	Server    Version          `json:"server"`
	Revision  int64            `json:"revision"` // of the store, that was compiled last
	Rules     int              `json:"rules"`    // objects in the store
	Census    uint64           `json:"census"`   // number of the census that counts the Workloads, or of a later one
	Workloads []WorkloadStatus `json:"workloads"`
}

// VersionAnswer is the answer of VersionPath.
type VersionAnswer struct {
	Format int `json:"format"`
	Version
}

// Version is which server answers.
type Version struct {
	Version string    `json:"version"`
	Go      string    `json:"go"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Runtime string    `json:"runtimeDir"`
	Data    string    `json:"dataDir"`
}

// WorkloadStatus is one workload that joined, with the snapshot that its proxy
// runs.
type WorkloadStatus struct {
	wire.Workload
	Connected    bool      `json:"connected"`              // its proxy's stream is open
	Since        time.Time `json:"since"`                  // when it joined
	SentVersion  string    `json:"sentVersion,omitempty"`  // of the last index that was sent
	AckedVersion string    `json:"ackedVersion,omitempty"` // of the snapshot that the proxy runs; "" for none yet
	AckedAt      time.Time `json:"ackedAt,omitzero"`
	Created      time.Time `json:"created,omitzero"` // of the acknowledged snapshot; its age is now minus this
	Census       uint64    `json:"census,omitempty"` // whom that snapshot knows: everybody where it is Status.Census
	Nack         string    `json:"nack,omitempty"`   // why the proxy refused SentVersion
}

// FlowQuery selects flows.
type FlowQuery struct {
	Workload string // instance or service-version; "" for every one ("workload=" in the query)
	Last     int    // how many flows at most, the newest, from 0 to MaxFlows ("n=", 100 by default)
	// Open asks for those that are open now, in place of past ones; not with Follow
	// ("open=1"). A server that would pass over it is of format 1, which its reader
	// refuses.
	Open   bool
	Follow bool // go on with each new one until the client leaves ("follow=1")
	// Trace asks for those of one trace ("trace="). A server of an older release passes over
	// it: its reader looks at what comes again.
	Trace trace.ID
}

// WhyQuery asks what would happen to one request.
type WhyQuery struct {
	From      string // instance, service-version, or a unique prefix of either ("from=")
	Namespace string // of From, and of a workload that is only thought of ("namespace=", "default" by default)
	// Labels make up a workload that is only thought of ("label=key:value", repeated); From is then
	// its service-version and may be empty.
	Labels  map[string]string
	Account string // its service account ("account=")
	URL     string // https://host/path, http://host/path, host:port or tcp://host:port ("url=")
	Method  string // of the request, GET by default ("method=")
	// Answers are what DNS is taken to say of the name, in place of nobody asking what the dialer
	// does with it ("answer=ADDRESS", repeated, at most advice.MaxAnswers).
	Answers []string
	Headers []string // of the request, as NAME: VALUE ("header=", repeated, at most advice.MaxHeaders)
}

// Why is the verdict on what a WhyQuery asked.
type Why struct {
	Format       int           `json:"format"`
	From         string        `json:"from"`               // the instance; or the service-version that was thought of
	Hypothetical bool          `json:"hypothetical"`       // no such workload is connected: compiled for one that is thought of
	Snapshot     string        `json:"snapshot,omitempty"` // version that decided
	Revision     int64         `json:"revision"`
	Age          time.Duration `json:"age,omitempty"` // of the snapshot, in nanoseconds
	Title        string        `json:"title"`         // "TLS with SNI www.googleapis.com on port 443"
	advice.Explanation
}

// Opened is a decision that was opened by its id, told as one that is asked about:
// From is whose it was, and Snapshot the version that decided.
type Opened struct {
	Why
	Flow record.Record `json:"flow"` // what came of it, and when
	// Now is the verdict of the snapshot that the workload runs now, or would run, where the
	// rules say something else by now.
	Now *Why `json:"now,omitempty"`
	// Since says what has changed, as sentences: whether the rules that decided still hold, what
	// today's say, and whether what was in force then is known.
	Since string `json:"since,omitempty"`
}
