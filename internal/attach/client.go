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
)

// Client is the connection of one sandbox to its proxy.
type Client struct {
	conn    *net.UnixConn
	done    chan struct{}
	watcher sync.WaitGroup
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
// A refusal is a *RefusedError.
func (c *Client) Attach(ctx context.Context, workload Hello, files []*os.File) (Welcome, error) {
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
	var said json.RawMessage
	// A server that refuses may have said so and closed before our hello: then the
	// sending fails, and what it said is read all the same.
	err := seqpacket.Send(c.conn, hello{helloFormat, workload}, descriptors...)
	if err != nil && !errors.Is(err, syscall.EPIPE) {
		return Welcome{}, c.failed(ctx, "say hello", err)
	}
	_, err = seqpacket.Receive(c.conn, &said, 0)
	if errors.Is(err, syscall.ECONNRESET) { // reported once, ahead of the message
		_, err = seqpacket.Receive(c.conn, &said, 0)
	}
	if err != nil {
		return Welcome{}, c.failed(ctx, "wait for its welcome", err)
	}
	answer, err := decodeWelcome(said)
	if err != nil {
		return Welcome{}, err
	}
	c.watcher.Go(func() {
		defer close(c.done)
		// The proxy says nothing after its welcome: a message is an end too.
		seqpacket.Receive(c.conn, new(any), 0)
	})
	return answer, nil
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
