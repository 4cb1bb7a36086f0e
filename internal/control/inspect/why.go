package inspect

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// why decides a request on the snapshot that the workload's proxy runs.
func (e *endpoints) why(w http.ResponseWriter, r *http.Request) {
	query, err := whyQuery(r.URL.Query())
	if err != nil {
		writeError(w, err)
		return
	}
	question, err := advice.Parse(query.URL, query.Method)
	if err == nil {
		question, err = question.WithAnswers(query.Answers)
	}
	if err == nil {
		question, err = question.WithHeaders(query.Headers)
	}
	if err != nil {
		writeError(w, failure(http.StatusBadRequest, "%v", err))
		return
	}
	answer, err := e.answer(query, question)
	if err != nil {
		writeError(w, err)
		return
	}
	e.write(w, answer)
}

// whyQuery reads the query of /sluice/why. A workload that is thought of may say
// as much of itself as a true one.
func whyQuery(values url.Values) (WhyQuery, error) {
	query := WhyQuery{
		From: values.Get("from"), Namespace: values.Get("namespace"), Account: values.Get("account"),
		URL: values.Get("url"), Method: values.Get("method"), Answers: values["answer"], Headers: values["header"],
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
		return query, failure(http.StatusBadRequest, "from is missing: name the workload that asks")
	}
	return query, nil
}

func (e *endpoints) answer(query WhyQuery, question advice.Question) (*Why, error) {
	workload, live, err := e.whose(query)
	if err != nil {
		return nil, err
	}
	var snapshot *wire.Snapshot
	if live {
		if snapshot = e.Data.Snapshot(workload.Namespace, workload.Instance); snapshot == nil {
			return nil, failure(http.StatusConflict, "%s has no snapshot yet: its proxy denies everything (%s)", workload.Instance, refusal.NoSnapshot)
		}
	} else if snapshot, err = e.Compiler.SnapshotFor(workload); err != nil {
		return nil, failure(http.StatusBadRequest, "%v", err)
	}
	explanation, err := advice.Answer(question, snapshot, workload)
	var wrong *advice.QuestionError
	if errors.As(err, &wrong) {
		return nil, failure(http.StatusBadRequest, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	answer := newWhy(workload.Instance, question.Title, snapshot, explanation)
	answer.Hypothetical = !live
	return answer, nil
}

// newWhy tells an explanation by the rules of a snapshot.
func newWhy(from, title string, snapshot *wire.Snapshot, explanation advice.Explanation) *Why {
	why := &Why{
		Format: Format, From: from, Snapshot: snapshot.Version, Revision: snapshot.Revision, Title: title, Explanation: explanation,
	}
	if !snapshot.Created.IsZero() {
		why.Age = time.Since(snapshot.Created)
	}
	return why
}

// whose finds the live workload that the query means, or makes up the one that
// it thinks of.
func (e *endpoints) whose(query WhyQuery) (workload wire.Workload, live bool, err error) {
	if query.Labels == nil {
		there := e.Census.Now()
		found, ok, err := there.Find(query.From, query.Namespace)
		if err != nil {
			return workload, false, failure(http.StatusBadRequest, "%v", err)
		}
		if ok {
			return found, true, nil
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
				"no workload %s is connected, and its name does not say service and version: say what it would be with --label K=V; sluice status lists those that are connected", query.From)
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
var serviceVersion = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z0-9](?:[-a-z0-9]*[a-z0-9])?)-(v[0-9][-A-Za-z0-9_.]*)$`)
})

func splitBase(from string) (service, version string, ok bool) {
	parts := serviceVersion().FindStringSubmatch(from)
	if parts == nil {
		return "", "", false
	}
	return parts[1], parts[2], true
}

// open reports one decision by its id.
func (e *endpoints) open(w http.ResponseWriter, r *http.Request) {
	id, err := record.ParseID(r.PathValue("id"))
	if err != nil {
		writeError(w, failure(http.StatusBadRequest, "%v", err))
		return
	}
	found, ok, err := e.Data.Flow(r.Context(), id)
	if !ok && e.Keeper != nil { // no ring has it any more
		if kept, there, keptErr := e.Keeper.Flow(id); there || err == nil {
			found, ok, err = kept, there, keptErr
		}
	}
	if err != nil {
		writeError(w, failure(http.StatusServiceUnavailable, "look for flow %s: %v", id, err))
		return
	}
	if !ok {
		writeError(w, failure(http.StatusNotFound, "no flow has the id %s: each proxy keeps its last %d, and the server some of the last hour", id, MaxFlows))
		return
	}
	opened, err := e.reopen(&found)
	if err != nil {
		writeError(w, err)
		return
	}
	e.write(w, opened)
}

// reopen explains a decision by the rules that were in force then, where they are known,
// and by those of now.
func (e *endpoints) reopen(found *record.Record) (*Opened, error) {
	workload, now, why := e.today(found.Workload)
	then := now
	missing := ""
	if now == nil || now.Version != found.Snapshot {
		then, missing = e.then(found)
	}
	decision, err := advice.Reopen(found, then, now, workload)
	if err != nil {
		return nil, err
	}
	decided := &wire.Snapshot{Version: found.Snapshot}
	if then != nil {
		decided = then
	}
	opened := &Opened{Why: *newWhy(found.Workload, decision.Title, decided, decision.Then), Flow: *found}
	if decision.Now != nil {
		opened.Now = newWhy(found.Workload, decision.Title, now, *decision.Now)
	}
	if decision.ByRules {
		opened.Since = strings.Join(slices.DeleteFunc([]string{missing, why, decision.Since}, func(s string) bool { return s == "" }), " ")
	}
	return opened, nil
}

// then is the rules that decided, or the sentence that says why they are not known.
func (e *endpoints) then(found *record.Record) (*wire.Snapshot, string) {
	if found.Snapshot == "" {
		return nil, "No rules were in force then."
	}
	err := errNoPast
	if e.Past != nil {
		var then *wire.Snapshot
		if then, err = e.Past.Snapshot(found.Snapshot); err == nil {
			return then, ""
		}
	}
	return nil, fmt.Sprintf("The rules of then, version %.12s, cannot be asked again: %v.", found.Snapshot, err)
}

var errNoPast = errors.New("this server keeps no versions")

// today is what a workload runs now, or would run if it was there as it last was; why says
// why that is not what it runs, or not known.
func (e *endpoints) today(instance string) (workload wire.Workload, now *wire.Snapshot, why string) {
	there := e.Census.Now()
	if live, ok, err := there.Find(instance, ""); err == nil && ok && live.Instance == instance {
		if now = e.Data.Snapshot(live.Namespace, live.Instance); now != nil {
			return live, now, ""
		}
		workload, why = live, "The workload runs no rules yet: today's are those that it will be given."
	} else {
		var known bool
		if e.Past != nil {
			workload, known = e.Past.Workload(instance)
		}
		if !known {
			return workload, nil, "The workload is gone, and it is not known by which rules it would be decided today."
		}
		why = "The workload is gone: today's rules are those that another like it would be given."
	}
	now, err := e.Compiler.SnapshotFor(workload)
	if err != nil {
		return workload, nil, fmt.Sprintf("Today's rules are not known: %v.", err)
	}
	return workload, now, why
}
