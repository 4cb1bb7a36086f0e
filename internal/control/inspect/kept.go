package inspect

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/record"
)

// MaxKept is how many flows KeptPath answers with at most.
const MaxKept = 50_000

// MaxSummary is how many sums a Summary has at most.
const MaxSummary = 5000

// Summary is who talked to what in a time.
type Summary struct {
	Format int           `json:"format"`
	From   time.Time     `json:"from"`  // the hour in which it begins
	Sums   []record.Sum  `json:"sums"`  // those with most records first; their Hour is 0
	More   int           `json:"more"`  // sums that are not among them
	Total  record.Counts `json:"total"` // with those

	Lost record.Losses `json:"lost"` // of all that was ever kept
	// ForgottenTo is the end of what was forgotten before its time, for want of space.
	ForgottenTo time.Time `json:"forgottenTo,omitzero"`
	// Missing says why what was closed last is not in it.
	Missing string `json:"missing,omitempty"`
}

// SummaryQuery asks for a Summary.
type SummaryQuery struct {
	Since            time.Time // in RFC 3339 ("since="); required
	record.SumFilter           // "namespace=", "workload=", "verdict=", "host=", "port=", "rule="
}

// Values is the query as it is asked.
func (q *SummaryQuery) Values() url.Values {
	values := url.Values{"since": {q.Since.UTC().Format(time.RFC3339)}}
	for name, value := range map[string]string{"namespace": q.Namespace, "workload": q.Workload, "host": q.Host, "rule": q.Rule, "verdict": q.Verdict.String()} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if q.Port != 0 {
		values.Set("port", strconv.Itoa(int(q.Port)))
	}
	return values
}

func summaryQuery(values url.Values) (q SummaryQuery, err error) {
	if q.Since, err = time.Parse(time.RFC3339, values.Get("since")); err != nil {
		return q, failure(http.StatusBadRequest, "since=%q must be a time, as in 2006-01-02T15:04:05Z", values.Get("since"))
	}
	q.Namespace, q.Workload, q.Host, q.Rule = values.Get("namespace"), values.Get("workload"), values.Get("host"), values.Get("rule")
	if err := q.Verdict.UnmarshalText([]byte(values.Get("verdict"))); err != nil {
		return q, failure(http.StatusBadRequest, "verdict=: %v", err)
	}
	if text := values.Get("port"); text != "" {
		port, ok := names.ParsePort(text)
		if !ok {
			return q, failure(http.StatusBadRequest, "port=%q must be a port from 1 to 65535", text)
		}
		q.Port = port
	}
	return q, nil
}

// Keeper keeps what proxies closed.
type Keeper interface {
	// Summary adds up what was closed. Its Format is not set.
	Summary(ctx context.Context, query SummaryQuery) (*Summary, error)
	// Kept returns the newest n flows that are kept and that the filter lets through.
	Kept(ctx context.Context, n int, filter record.Filter) ([]record.Record, error)
	// Flow returns one that is kept.
	Flow(id record.ID) (record.Record, bool, error)
}

// summary answers who talked to what.
func (e *endpoints) summary(w http.ResponseWriter, r *http.Request) {
	query, err := summaryQuery(r.URL.Query())
	if err == nil && e.Keeper == nil {
		err = errNoKeeper
	}
	if err != nil {
		writeError(w, err)
		return
	}
	answer, err := e.Keeper.Summary(r.Context(), query)
	if err != nil {
		writeError(w, failure(http.StatusInternalServerError, "sum up what was closed: %v", err))
		return
	}
	answer.Format = Format
	e.write(w, answer)
}

var errNoKeeper = failure(http.StatusNotImplemented, "this server keeps no flows: it has no data folder of its own")

// kept streams flows as flows does.
func (e *endpoints) kept(w http.ResponseWriter, r *http.Request) {
	query, err := flowQuery(r.URL.Query(), MaxKept)
	if err == nil && e.Keeper == nil {
		err = errNoKeeper
	}
	if err == nil && (query.Open || query.Follow) {
		err = failure(http.StatusBadRequest, "what is kept is past: neither open=1 nor follow=1")
	}
	if err != nil {
		writeError(w, err)
		return
	}
	flows, err := e.Keeper.Kept(r.Context(), query.Last, record.Filter{Workload: query.Workload, Trace: query.Trace})
	if err != nil {
		writeError(w, failure(http.StatusInternalServerError, "read what is kept: %v", err))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set(FormatHeader, strconv.Itoa(Format))
	control, wait, encoder := http.NewResponseController(w), cmp.Or(e.flowWrite, flowWrite), json.NewEncoder(w)
	for i := range flows {
		_ = control.SetWriteDeadline(time.Now().Add(wait))
		if encoder.Encode(flows[i]) != nil {
			return // the client is gone, or too slow
		}
	}
}
