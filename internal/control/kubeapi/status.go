package kubeapi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"sluice.dev/sluice/api/v1alpha1"
)

const (
	// statusRate bounds the writes of statuses, each second. It is more than one client
	// creates in that time, so that statuses keep up with whoever creates thousands.
	statusRate = 400
	// statusBurst is how many of them may come at once.
	statusBurst = 25
	// statusSettle is how long a report waits for the next before it is written:
	// a rule that is compiled and programmed in that time costs one write.
	statusSettle = 250 * time.Millisecond
	// statusNext is the pause before a newer report is written in place of the one that is
	// being written. It is short: in a storm of changes each report is soon an old one.
	statusNext = 10 * time.Millisecond
	// statusTimeout bounds one write of a status. A write that began is let finish
	// when the store stops, so it bounds the stop too.
	statusTimeout = 2 * time.Second
	// statusRetry is how long after a failure the writing begins anew.
	statusRetry = 5 * time.Second
)

// The types and reasons of the conditions.
const (
	ConditionAccepted   = "Accepted"   // the object was compiled and takes effect
	ConditionProgrammed = "Programmed" // every connected proxy runs a snapshot with it

	// ConditionWarning is there where the object may not mean what was meant.
	ConditionWarning = "Warning"

	reasonCompiled     = "Compiled"
	reasonRejected     = "Rejected"
	reasonAcknowledged = "Acknowledged"
	reasonPending      = "Pending"
	reasonSelects      = "SelectsNothing" // it names what no workload is that runs now
	reasonAdvice       = "Advice"
)

// maxMessage bounds the message of a condition, in bytes; a longer one is cut.
const maxMessage = 4 << 10

// Report says of the objects up to one revision what was compiled of them.
type Report struct {
	Revision  int64              // that was compiled
	Problems  map[string]string  // by api.Object.ID: why it has no effect
	Warnings  map[string]Warning // by api.Object.ID: why it may not mean what was meant
	Running   int                // workloads whose proxies acknowledged what was compiled
	Connected int                // workloads whose proxies are connected
	Behind    bool               // another server of the same rules has not come to them
}

// Programmed reports whether every connected proxy acknowledged what was compiled.
func (r *Report) Programmed() bool { return r.Running == r.Connected && !r.Behind }

// running says how many proxies run what was compiled. Of what all run it says how many
// those were then: whoever connects later gets no other rules, and a status that followed
// each who comes and goes would be written all the time.
func (r *Report) running() string {
	switch {
	case r.Behind && r.Running == r.Connected:
		return "another server has not come to it"
	case !r.Programmed():
		return fmt.Sprintf("the proxies of %d of %d connected workloads run it", r.Running, r.Connected)
	case r.Connected == 0:
		return "no workload was connected; whoever connects runs it from the start"
	case r.Connected == 1:
		return "the proxy of the one connected workload runs it; whoever connects later runs it from the start"
	}
	return fmt.Sprintf("the proxies of all %d connected workloads run it; whoever connects later runs it from the start", r.Connected)
}

// Warning is what a user should know of an object that takes effect.
type Warning struct {
	SelectsNothing bool // the object names what no workload is that runs now
	Text           string
}

// Report hands the newest report in. Only the newest is written, and only to
// objects whose status says something else.
func (s *Store) Report(report Report) {
	s.mu.Lock()
	s.report = report
	s.mu.Unlock()
	wakeUp(s.reports)
}

// writeStatuses brings the statuses to what the newest report says.
func (s *Store) writeStatuses(ctx context.Context) {
	limit := rate.NewLimiter(statusRate, statusBurst)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.reports:
		}
		pause := statusSettle
		for pause > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = s.writeReport(ctx, limit)
		}
	}
}

// writeReport writes what is due, some at a time: the same number one by one, evenly
// over the time, costs the processor a third more. A newer report takes the place
// of the one that is being written. It returns after what pause the rest is to be
// tried again, 0 where nothing is left.
func (s *Store) writeReport(ctx context.Context, limit *rate.Limiter) (again time.Duration) {
	for some := range slices.Chunk(s.due(), statusBurst) {
		if limit.WaitN(ctx, len(some)) != nil {
			return 0 // ctx ended
		}
		for _, one := range some {
			switch err := s.writeStatus(ctx, one.object, one.status); {
			case err == nil, apierrors.IsNotFound(err):
			case apierrors.IsConflict(err):
				again = statusSettle // the watch is about to deliver another version
			default:
				s.config.Log.Warn("write the status of an object", "object", one.object.ID(), "error", err, "again", statusRetry)
				return statusRetry
			}
			if ctx.Err() != nil {
				return 0
			}
		}
		select {
		case <-s.reports:
			return statusNext
		default:
		}
	}
	return again
}

// dueStatus is a status that is to be written.
type dueStatus struct {
	object *stored
	status v1alpha1.Status
}

// due returns the statuses that the newest report changes, of the oldest change first;
// those in which nothing but a number moved come after all others, which they would
// otherwise hold up for as long as it moves.
func (s *Store) due() (due []dueStatus) {
	var counts []dueStatus
	s.mu.Lock()
	report, objects := s.report, sortedByRevision(s.objects, s.report.Revision)
	s.mu.Unlock()
	for i := range objects {
		status, differs := statusOf(&objects[i], &report)
		switch {
		case !differs:
		case onlyCounts(status, objects[i].status):
			counts = append(counts, dueStatus{&objects[i], status})
		default:
			due = append(due, dueStatus{&objects[i], status})
		}
	}
	return append(due, counts...)
}

// statusOf returns the status that report comes to and whether the object's is
// another.
func statusOf(object *stored, report *Report) (v1alpha1.Status, bool) {
	have, generation := &object.status, object.Metadata.Generation
	accepted := v1alpha1.Condition{Type: ConditionAccepted, Status: string(metav1.ConditionTrue), Reason: reasonCompiled, Message: "in effect"}
	programmed := v1alpha1.Condition{Type: ConditionProgrammed, Status: string(metav1.ConditionTrue), Reason: reasonAcknowledged, Message: report.running()}
	if !report.Programmed() {
		programmed.Status, programmed.Reason = string(metav1.ConditionFalse), reasonPending
	}
	text, rejected := report.Problems[object.ID()]
	if object.fault != "" {
		text, rejected = object.fault, true
		if object.inForce != nil {
			text += "; what it was before stays in force"
		}
	}
	if rejected {
		accepted.Status, accepted.Reason, accepted.Message = string(metav1.ConditionFalse), reasonRejected, text
		programmed.Status, programmed.Reason, programmed.Message = string(metav1.ConditionFalse), reasonRejected, text
	}
	conditions := []v1alpha1.Condition{accepted, programmed}
	if warning, warned := report.Warnings[object.ID()]; warned {
		reason := reasonAdvice
		if warning.SelectsNothing {
			reason = reasonSelects
		}
		conditions = append(conditions, v1alpha1.Condition{Type: ConditionWarning, Status: string(metav1.ConditionTrue), Reason: reason, Message: warning.Text})
	}
	want := v1alpha1.Status{ObservedGeneration: generation}
	now := time.Now().UTC().Format(time.RFC3339)
	for _, condition := range conditions {
		if len(condition.Message) > maxMessage {
			condition.Message = strings.ToValidUTF8(condition.Message[:maxMessage], "") + "..."
		}
		condition.ObservedGeneration, condition.LastTransitionTime = generation, now
		i := slices.IndexFunc(have.Conditions, func(c v1alpha1.Condition) bool { return c.Type == condition.Type })
		if i >= 0 && have.Conditions[i].Status == condition.Status {
			condition.LastTransitionTime = have.Conditions[i].LastTransitionTime
		}
		// A rule that was programmed stays so while a later snapshot is on its way.
		if i >= 0 && isProgress(condition.Reason) && have.Conditions[i].Reason == reasonAcknowledged && have.Conditions[i].ObservedGeneration == generation {
			condition = have.Conditions[i]
		}
		want.Conditions = append(want.Conditions, condition)
	}
	return want, want.ObservedGeneration != have.ObservedGeneration || !slices.Equal(want.Conditions, have.Conditions)
}

// isProgress reports whether a reason is about how many proxies run something.
func isProgress(reason string) bool { return reason == reasonPending || reason == reasonAcknowledged }

// onlyCounts reports whether two statuses differ in nothing but how many proxies run what
// not all do yet.
func onlyCounts(a, b v1alpha1.Status) bool {
	return a.ObservedGeneration == b.ObservedGeneration && slices.EqualFunc(a.Conditions, b.Conditions, func(a, b v1alpha1.Condition) bool {
		if a.Reason == reasonPending {
			a.Message = b.Message
		}
		return a == b
	})
}

// writeStatus writes one status over the version of the object that is held: a
// conflict where the object is another by now, not found where it is gone. The
// whole status is put: for a patch the server would encode, merge and decode the
// object once again.
func (s *Store) writeStatus(ctx context.Context, object *stored, status v1alpha1.Status) error {
	plain, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&status)
	if err != nil {
		return fmt.Errorf("encode the status of %s: %w", object.ID(), err)
	}
	body := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": object.APIVersion,
		"kind":       object.Kind,
		"metadata": map[string]any{
			"name": object.Metadata.Name, "namespace": object.Metadata.Namespace,
			"uid": object.Metadata.UID, "resourceVersion": object.Metadata.ResourceVersion,
		},
		"status": plain,
	}}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusTimeout)
	defer cancel()
	written, err := s.client.Resource(groupVersionResource(object.TypeOf())).Namespace(object.Metadata.Namespace).
		UpdateStatus(ctx, body, metav1.UpdateOptions{FieldManager: fieldManager, FieldValidation: metav1.FieldValidationIgnore})
	if err != nil {
		return err
	}
	s.noteStatus(object, written.GetResourceVersion(), status)
	s.tellAccepted(object, status)
	return nil
}

// tellAccepted tells of an object that takes no effect now, or takes effect again.
func (s *Store) tellAccepted(object *stored, status v1alpha1.Status) {
	was, is := acceptedOf(&object.status), acceptedOf(&status)
	refused, before := is.Status == string(metav1.ConditionFalse), was.Status == string(metav1.ConditionFalse)
	if s.config.Accepted != nil && (refused && (!before || was.Message != is.Message) || before && !refused) {
		s.config.Accepted(&object.Object, !refused, is.Reason, is.Message)
	}
}

// acceptedOf is the condition that says whether an object takes effect; the zero one where none does.
func acceptedOf(status *v1alpha1.Status) v1alpha1.Condition {
	for _, condition := range status.Conditions {
		if condition.Type == ConditionAccepted {
			return condition
		}
	}
	return v1alpha1.Condition{}
}

// noteStatus keeps what was written, so that the next report need not wait for
// the watch to deliver it.
func (s *Store) noteStatus(object *stored, version string, status v1alpha1.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, still := s.held[object.key]
	if !still {
		return
	}
	held := &s.objects[i]
	if held.Metadata.UID == object.Metadata.UID && revisionOf(&held.Object) < parseRevision(version) {
		held.Metadata.ResourceVersion, held.status = version, status
	}
}

// readStatus reads a status as the API served it. What is not a status of ours is
// none: it is overwritten.
func readStatus(served any) (status v1alpha1.Status) {
	plain, ok := served.(map[string]any)
	if !ok || runtime.DefaultUnstructuredConverter.FromUnstructured(plain, &status) != nil {
		return v1alpha1.Status{}
	}
	return status
}
