package server

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/flow"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/why"
	"sluice.dev/sluice/internal/wire"
)

// why decides a request on the snapshot that the workload's proxy runs.
func (e *endpoints) why(w http.ResponseWriter, r *http.Request) {
	query, err := whyQuery(r.URL.Query())
	if err != nil {
		writeError(w, err)
		return
	}
	question, err := why.Parse(query.URL, query.Method)
	if err != nil {
		writeError(w, failure(http.StatusBadRequest, "%v", err))
		return
	}
	answer, err := e.answer(query, question)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, answer)
}

// whyQuery reads the query of /sluice/why. A workload that is thought of may say
// as much of itself as a true one.
func whyQuery(values url.Values) (inspect.WhyQuery, error) {
	query := inspect.WhyQuery{
		From: values.Get("from"), Namespace: values.Get("namespace"), Account: values.Get("account"),
		URL: values.Get("url"), Method: values.Get("method"),
	}
	if query.URL == "" {
		return query, failure(http.StatusBadRequest, "url is missing: https://HOST/PATH, http://HOST/PATH or HOST:PORT")
	}
	for _, label := range values["label"] {
		key, value, ok := strings.Cut(label, ":")
		if !ok || key == "" {
			return query, failure(http.StatusBadRequest, "label=%q must be KEY:VALUE", label)
		}
		if query.Labels == nil {
			query.Labels = make(map[string]string)
		}
		query.Labels[key] = value
	}
	if query.From == "" && query.Labels == nil {
		return query, failure(http.StatusBadRequest, "from is missing: which workload asks?")
	}
	return query, nil
}

func (e *endpoints) answer(query inspect.WhyQuery, question why.Question) (*inspect.Why, error) {
	workload, live, err := e.whose(query)
	if err != nil {
		return nil, err
	}
	var snapshot *wire.Snapshot
	if live {
		if snapshot = e.data.Snapshot(workload.Namespace, workload.Instance); snapshot == nil {
			return nil, failure(http.StatusConflict, "%s has no snapshot yet: its proxy denies everything (%s)", workload.Instance, policy.NoSnapshot)
		}
	} else if snapshot, err = e.compiler.SnapshotFor(workload); err != nil {
		return nil, failure(http.StatusBadRequest, "%v", err)
	}
	explanation, err := why.Answer(question, snapshot, workload)
	if err != nil {
		return nil, err
	}
	answer := &inspect.Why{
		From: workload.Instance, Hypothetical: !live, Snapshot: snapshot.Version, Revision: snapshot.Revision,
		Title: question.Title, Explanation: explanation,
	}
	if !snapshot.Created.IsZero() {
		answer.Age = time.Since(snapshot.Created)
	}
	return answer, nil
}

// whose finds the live workload that the query means, or makes up the one that
// it thinks of.
func (e *endpoints) whose(query inspect.WhyQuery) (workload wire.Workload, live bool, err error) {
	if query.Labels == nil {
		found, err := find(e.data.Workloads(), query.From, query.Namespace)
		if found != nil || err != nil {
			if found != nil {
				workload = found.Workload
			}
			return workload, found != nil, err
		}
	}
	thought := wire.Workload{
		Instance: query.From, Namespace: query.Namespace, Account: query.Account, Level: "none",
		Labels: query.Labels, Service: query.Labels["app"], Version: query.Labels["version"],
	}
	if query.Labels == nil {
		service, version, ok := splitBase(query.From)
		if !ok {
			return workload, false, failure(http.StatusNotFound,
				"no workload %s is connected, and its name does not say service and version: give its labels", query.From)
		}
		thought.Service, thought.Version = service, version
	}
	if thought.Namespace == "" {
		thought.Namespace = wire.DefaultNamespace
	}
	if workload, err = thought.Normalize(); err != nil {
		return workload, false, failure(http.StatusBadRequest, "%v", err)
	}
	if workload.Instance == "" {
		workload.Instance = workload.Base()
	}
	return workload, false, nil
}

// serviceVersion is a workload's name without its number.
var serviceVersion = regexp.MustCompile(`^([a-z0-9](?:[-a-z0-9]*[a-z0-9])?)-(v[0-9][-A-Za-z0-9_.]*)$`)

func splitBase(from string) (service, version string, ok bool) {
	parts := serviceVersion.FindStringSubmatch(from)
	if parts == nil {
		return "", "", false
	}
	return parts[1], parts[2], true
}

// find returns the live workload that from names: an instance, a service-version
// (then its first instance, for all of one run the same rules), or the beginning
// of one that only one service-version has. Neither found nor error: there is
// none.
func find(live []inspect.WorkloadStatus, from, namespace string) (*inspect.WorkloadStatus, error) {
	var matches []*inspect.WorkloadStatus
	for _, fits := range []func(w *wire.Workload) bool{
		func(w *wire.Workload) bool { return w.Instance == from },
		func(w *wire.Workload) bool { return base(w) == from },
		func(w *wire.Workload) bool { return strings.HasPrefix(w.Instance, from) },
	} {
		for i := range live {
			w := &live[i].Workload
			if (namespace == "" || w.Namespace == namespace) && fits(w) {
				matches = append(matches, &live[i])
			}
		}
		if len(matches) > 0 {
			break
		}
	}
	if len(matches) == 0 {
		return nil, nil
	}
	var meant []string
	for _, match := range matches {
		if name := match.Namespace + "/" + base(&match.Workload); !slices.Contains(meant, name) {
			meant = append(meant, name)
		}
	}
	if len(meant) > 1 {
		slices.Sort(meant)
		return nil, failure(http.StatusBadRequest, "%s can mean %s: say more of it, or its namespace", from, strings.Join(meant, ", "))
	}
	return slices.MinFunc(matches, func(a, b *inspect.WorkloadStatus) int { return strings.Compare(a.Instance, b.Instance) }), nil
}

// base is the instance without its number.
func base(w *wire.Workload) string {
	name, _, _ := strings.Cut(w.Instance, "/")
	return name
}

// open tells of one decision by its id.
func (e *endpoints) open(w http.ResponseWriter, r *http.Request) {
	id, err := flow.ParseID(r.PathValue("id"))
	if err != nil {
		writeError(w, failure(http.StatusBadRequest, "%v", err))
		return
	}
	found, ok, err := e.data.Flow(r.Context(), id)
	if err != nil {
		writeError(w, failure(http.StatusServiceUnavailable, "look for flow %s: %v", id, err))
		return
	}
	if !ok {
		writeError(w, failure(http.StatusNotFound, "no flow has the id %s: each proxy keeps its last %d, and those of a proxy that ended are gone", id, inspect.MaxFlows))
		return
	}
	opened := inspect.Opened{Flow: found}
	if found.Verdict != "error" {
		opened.Sentence = policy.Reason(found.Reason).Text()
	}
	if question, ok := why.OfFlow(&found); ok {
		// The workload may have left meanwhile, or run nothing yet: then there is no
		// verdict of now.
		if live, err := find(e.data.Workloads(), found.Workload, ""); err == nil && live != nil && live.Instance == found.Workload {
			query := inspect.WhyQuery{From: live.Instance, Namespace: live.Namespace}
			opened.Now, _ = e.answer(query, question)
		}
	}
	writeJSON(w, opened)
}
