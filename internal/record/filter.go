package record

import (
	"net"
	"strings"
	"time"

	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// Filter says which flows are wanted. Each field that is set must hold; the zero
// Filter lets everything through.
type Filter struct {
	Workload string // an instance ("details-v2/1"), or without "/N" all of them
	Verdict  Verdict
	Reason   refusal.Reason
	Host     string    // equal to what was dialled, the SNI or the Host without its port; by characters, case ignored
	Port     uint16    // 0: any
	Rule     string    // the rule's ID
	Since    time.Time // flows that started at this time or later
	Trace    trace.ID
}

// Match reports whether f is wanted. It does not retain f.
func (w Filter) Match(f *Record) bool {
	return (w.Workload == "" || f.Workload == w.Workload || instanceOf(f.Workload, w.Workload)) &&
		(w.Verdict == Pending || f.Verdict == w.Verdict) &&
		(w.Reason == "" || f.Reason == w.Reason) &&
		(w.Port == 0 || f.Port == w.Port) &&
		(w.Rule == "" || f.Rule == w.Rule || f.Route == w.Rule) &&
		(w.Trace == (trace.ID{}) || f.Trace == w.Trace) &&
		(w.Since.IsZero() || !f.Start.Before(w.Since)) &&
		(w.Host == "" || sameHost(f.Dialled, w.Host) || sameHost(f.SNI, w.Host) || sameHost(f.Host, w.Host))
}

// instanceOf reports whether instance is workload + "/N".
func instanceOf(instance, workload string) bool {
	rest, ok := strings.CutPrefix(instance, workload)
	return ok && strings.HasPrefix(rest, "/")
}

// versionOf reports whether workload is a version of service, as "web-v1" is of "web":
// neither "web-vault" nor "web-vault-v1", which are of another.
func versionOf(workload, service string) bool {
	version, ok := strings.CutPrefix(workload, service+"-v")
	return ok && version != "" && '0' <= version[0] && version[0] <= '9' && !strings.Contains(version, "-v")
}

// sameHost is a convenience for people who filter a list; it decides nothing, so
// it need not know every spelling of a name.
func sameHost(seen, wanted string) bool {
	if strings.EqualFold(seen, wanted) {
		return true
	}
	host, _, err := net.SplitHostPort(seen)
	return err == nil && strings.EqualFold(host, strings.Trim(wanted, "[]"))
}

// SumFilter says which sums are wanted, as Filter says it of flows.
type SumFilter struct {
	Namespace string
	Workload  string // without an instance; or a service: all of its workloads
	Verdict   Verdict
	Host      string
	Port      uint16
	Rule      string
}

// Match reports whether s is wanted.
func (w *SumFilter) Match(s *Sum) bool {
	return (w.Namespace == "" || s.Namespace == w.Namespace) &&
		(w.Workload == "" || s.Workload == w.Workload || versionOf(s.Workload, w.Workload)) &&
		(w.Verdict == Pending || s.Verdict == w.Verdict) &&
		(w.Port == 0 || s.Port == w.Port) &&
		(w.Rule == "" || s.Rule == w.Rule) &&
		(w.Host == "" || sameHost(s.Host, w.Host))
}
