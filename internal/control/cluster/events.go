package cluster

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"sluice.dev/sluice/api"
)

const (
	// eventSource is who says what an event says.
	eventSource = "sluice-server"
	// maxEvent bounds what an event says, in bytes; the status says all of it.
	maxEvent = 1 << 10
)

// Events says in the events of an object that it takes no effect, or takes effect again, for
// kubectl describe and kubectl get events. Too many about one object are dropped.
type Events struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

// Events returns the events of the cluster's rules, until ctx ends.
func (c *Cluster) Events(ctx context.Context) *Events {
	e := &Events{broadcaster: record.NewBroadcaster(record.WithContext(ctx))}
	e.broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c.client.CoreV1().Events("")})
	e.recorder = e.broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: eventSource})
	return e
}

// Accepted says what became of an object.
func (e *Events) Accepted(object *api.Object, accepted bool, reason, text string) {
	kind := corev1.EventTypeWarning
	if accepted {
		kind = corev1.EventTypeNormal
	}
	if len(text) > maxEvent {
		const more = "..."
		text = strings.ToValidUTF8(text[:maxEvent-len(more)], "") + more
	}
	e.recorder.Event(&corev1.ObjectReference{
		APIVersion: object.APIVersion, Kind: object.Kind, Namespace: object.Metadata.Namespace, Name: object.Metadata.Name,
		UID: types.UID(object.Metadata.UID), ResourceVersion: object.Metadata.ResourceVersion,
	}, kind, reason, text)
}
