package kubeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sluice.dev/sluice/api/v1alpha1"
)

const (
	// statusRate bounds the writes of statuses, each second; a thousand creates at
	// once get theirs within twenty seconds and cost no more writes than that.
	statusRate = 50
	// statusSettle is how long a report waits for the next before it is written:
	// a rule that is compiled and programmed in that time costs one write.
	statusSettle = 250 * time.Millisecond
)

// The types and reasons of the conditions.
const (
	ConditionReady      = "Ready"      // the object was compiled and takes effect
	ConditionProgrammed = "Programmed" // every connected proxy runs a snapshot with it

	reasonCompiled     = "Compiled"
	reasonRejected     = "Rejected"
	reasonAcknowledged = "Acknowledged"
	reasonPending      = "Pending"
)

// Report says what became of the objects up to one revision.
type Report struct {
	Revision   int64             // that was compiled
	Problems   map[string]string // by api.Object.ID: why it has no effect
	Programmed bool              // every connected proxy acknowledged what was compiled
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
	limit := rate.NewLimiter(statusRate, statusRate/5)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.reports:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(statusSettle):
		}
		s.writeReport(ctx, limit)
	}
}

// writeReport writes what is due. A newer report takes the place of the one that
// is being written.
func (s *Store) writeReport(ctx context.Context, limit *rate.Limiter) {
	s.mu.Lock()
	report, due := s.report, sortedByRevision(s.objects, s.report.Revision)
	s.mu.Unlock()
	for i := range due {
		object := &due[i]
		status, differs := s.statusOf(object, &report)
		if !differs {
			continue
		}
		if limit.Wait(ctx) != nil {
			return // ctx ended
		}
		if err := s.writeStatus(ctx, object, status); err != nil {
			if ctx.Err() == nil {
				s.config.Log.Warn("write the status of an object", "object", object.ID(), "error", err)
			}
		}
		select {
		case <-s.reports:
			wakeUp(s.reports)
			return
		default:
		}
	}
}

// statusOf returns the status that report comes to and whether the object's is
// another.
func (s *Store) statusOf(object *stored, report *Report) (v1alpha1.Status, bool) {
	var have v1alpha1.Status
	if len(object.Status) > 0 {
		_ = json.Unmarshal(object.Status, &have) // a foreign status is overwritten
	}
	generation := object.Metadata.Generation
	ready := v1alpha1.Condition{Type: ConditionReady, Status: string(metav1.ConditionTrue), Reason: reasonCompiled, Message: "in effect"}
	programmed := v1alpha1.Condition{Type: ConditionProgrammed, Status: string(metav1.ConditionTrue), Reason: reasonAcknowledged, Message: "every connected proxy runs it"}
	if !report.Programmed {
		programmed.Status, programmed.Reason = string(metav1.ConditionFalse), reasonPending
		programmed.Message = "not every connected proxy acknowledged it yet"
	}
	if text, rejected := report.Problems[object.ID()]; rejected {
		ready.Status, ready.Reason, ready.Message = string(metav1.ConditionFalse), reasonRejected, text
		programmed.Status, programmed.Reason, programmed.Message = string(metav1.ConditionFalse), reasonRejected, text
	}
	want := v1alpha1.Status{ObservedGeneration: generation}
	now := time.Now().UTC().Format(time.RFC3339)
	for _, condition := range []v1alpha1.Condition{ready, programmed} {
		condition.ObservedGeneration, condition.LastTransitionTime = generation, now
		i := slices.IndexFunc(have.Conditions, func(c v1alpha1.Condition) bool { return c.Type == condition.Type })
		if i >= 0 && have.Conditions[i].Status == condition.Status {
			condition.LastTransitionTime = have.Conditions[i].LastTransitionTime
		}
		// A rule that was programmed stays so while a later snapshot is on its way.
		if i >= 0 && condition.Reason == reasonPending && have.Conditions[i].Reason == reasonAcknowledged && have.Conditions[i].ObservedGeneration == generation {
			condition = have.Conditions[i]
		}
		want.Conditions = append(want.Conditions, condition)
	}
	return want, want.ObservedGeneration != have.ObservedGeneration || !slices.Equal(want.Conditions, have.Conditions)
}

// writeStatus patches one status. The uid makes the write fail where the object
// was deleted and made anew.
func (s *Store) writeStatus(ctx context.Context, object *stored, status v1alpha1.Status) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": object.Metadata.UID},
		"status":   status,
	})
	if err != nil {
		return err
	}
	_, err = s.client.Resource(groupVersionResource(object.TypeOf())).Namespace(object.Metadata.Namespace).
		Patch(ctx, object.Metadata.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or another object by now: it gets a report of its own
	}
	return err
}

// encodeStatus returns a status as the API served it in JSON, nil for none.
func encodeStatus(status any) (json.RawMessage, error) {
	if status == nil {
		return nil, nil
	}
	data, err := json.Marshal(status)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return data, nil
}
