package reach

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"k8s.io/streaming/pkg/httpstream"

	corev1 "k8s.io/api/core/v1"
)

// refusing is a connection to a Pod that refuses its port. Reset of the data wakes Read, and comes
// back only once that is over.
type refusing struct {
	httpstream.Connection
	data *data
}

func (r *refusing) CreateStream(headers http.Header) (httpstream.Stream, error) {
	if headers.Get(corev1.StreamType) == corev1.StreamTypeError {
		return refusalStream{strings.NewReader("connection refused")}, nil
	}
	return r.data, nil
}

// refusalStream is the stream of the refusal.
type refusalStream struct{ io.Reader }

func (refusalStream) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
func (refusalStream) Close() error              { return nil }
func (refusalStream) Reset() error              { return nil }
func (refusalStream) Headers() http.Header      { return nil }
func (refusalStream) Identifier() uint32        { return 1 }

// data is the stream of the bytes.
type data struct {
	refusalStream
	reset, read chan struct{}
}

func (d *data) Read([]byte) (int, error) { <-d.reset; return 0, io.EOF }
func (d *data) Reset() error             { close(d.reset); <-d.read; return nil }

func TestWhyAPortOfAPodIsRefusedIsSaidHoweverSoonItIsRead(t *testing.T) {
	d := &data{reset: make(chan struct{}), read: make(chan struct{})}
	f, err := newForwarded(&refusing{data: d}, "one")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Read(make([]byte, 1))
	close(d.read)
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("it says %v", err)
	}
}
