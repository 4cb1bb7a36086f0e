package attach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/capture/seqpacket"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/report"
	"sluice.dev/sluice/internal/wire"
)

// FinishTimeout is how long a proxy may take to end the connections of a command
// that has ended, and to say what became of them.
const FinishTimeout = 10 * time.Second

// Client is the connection of one sandbox to its proxy.
type Client struct {
	conn    *net.UnixConn
	done    chan struct{}
	watcher sync.WaitGroup

	// What the server said at the end; to be read after done.
	summary report.Summary
	last    *sum // nil: it did not come to that
}

// Dial connects to a proxy's attach.sock. It can be done while the sandbox is
// set up; the server waits HelloTimeout.
func Dial(ctx context.Context, path string) (*Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unixpacket", path)
	if err != nil {
		return nil, fmt.Errorf("attach to the proxy: %w", err)
	}
	return &Client{conn: conn.(*net.UnixConn), done: make(chan struct{})}, nil
}

// Attach hands the sandbox over and waits for the welcome. The files are closed
// whatever comes of it: held here they would keep the sandbox's network alive.
// A refusal is a *RefusedError. With said.Each, each is called for each record that
// is closed, one after the other; the proxy drops and counts records while it takes
// its time.
func (c *Client) Attach(ctx context.Context, said Hello, files []*os.File, each func(*record.Record)) (Welcome, error) {
	defer capture.CloseFiles(files)
	descriptors := make([]int, len(files))
	for i, file := range files {
		descriptors[i] = int(file.Fd())
	}
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.conn.SetDeadline(time.Unix(1, 0))
		close(cancelled)
	})
	defer func() {
		if !stop() { // or the deadline would hit the watcher
			<-cancelled
			c.conn.SetDeadline(time.Time{})
		}
	}()
	var first json.RawMessage
	// A server that refuses may have said so and closed before our hello: then the
	// sending fails, and what it said is read all the same.
	err := seqpacket.Send(c.conn, hello{helloFormat, said}, descriptors...)
	if err != nil && !errors.Is(err, syscall.EPIPE) {
		return Welcome{}, c.failed(ctx, "say hello", err)
	}
	_, err = seqpacket.Receive(c.conn, &first, 0)
	if errors.Is(err, syscall.ECONNRESET) { // reported once, ahead of the message
		_, err = seqpacket.Receive(c.conn, &first, 0)
	}
	if err != nil {
		return Welcome{}, c.failed(ctx, "wait for its welcome", err)
	}
	answer, err := decodeWelcome(first)
	if err != nil {
		return Welcome{}, err
	}
	c.watcher.Go(func() {
		defer close(c.done)
		for c.hear(each) {
		}
	})
	return answer, nil
}

// hear takes one message after the welcome. It reports false at the end: what is
// not understood is one too.
func (c *Client) hear(each func(*record.Record)) bool {
	var said news
	if _, err := seqpacket.Receive(c.conn, &said, 0); err != nil {
		return false
	}
	switch {
	case said.Record != nil && each != nil:
		each(said.Record)
		return true
	case said.Entry != nil && len(c.summary.Entries) < report.MaxEntries:
		c.summary.Entries = append(c.summary.Entries, *said.Entry)
		return true
	case said.Sum != nil:
		c.last, c.summary.Counts, c.summary.More = said.Sum, said.Sum.Counts, said.Sum.More
	}
	return false
}

// Report says which ports of the workload are not ready from now on. It is for after
// Attach. An error says that the proxy is gone.
func (c *Client) Report(unready []wire.Unready) error {
	if err := seqpacket.Send(c.conn, word{Ports: &ports{unready}}); err != nil {
		return fmt.Errorf("report to the proxy: %w", err)
	}
	return nil
}

// Finish says that the command has ended, and returns what became of all its
// connections and how many records each was not called for. The attachment is at
// its end then.
func (c *Client) Finish() (summary report.Summary, dropped uint64, err error) {
	// A proxy that is gone hears nothing; what it said before counts.
	failed := seqpacket.Send(c.conn, word{Finish: true})
	timer := time.NewTimer(FinishTimeout)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.Close() // ends the watcher
		failed = fmt.Errorf("no answer within %v", FinishTimeout)
	}
	if c.last == nil {
		if failed == nil {
			failed = errors.New("it ended first")
		}
		return report.Summary{}, 0, fmt.Errorf("the proxy did not say what became of the command's connections: %w", failed)
	}
	return c.summary, c.last.Dropped, nil
}

func (c *Client) failed(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if errors.Is(err, io.EOF) {
		// A peer that may not attach gets no answer.
		err = errors.New("it closed the connection; its log says why")
	}
	return fmt.Errorf("attach to the proxy: %s: %w", doing, err)
}

// Done is closed when the proxy has ended the attachment or is gone, and by
// Close; the sandbox is to be ended then. It is open until Attach has returned
// without an error.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the attachment.
func (c *Client) Close() error {
	err := c.conn.Close()
	c.watcher.Wait()
	return err
}
