package attach

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/capture/seqpacket"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/report"
	"sluice.dev/sluice/internal/wire"
)

// tellTimeout is how long a client may take for a record before the next one's turn
// comes: one that was stopped with its command reads nothing.
const tellTimeout = time.Second

// receive reads the hello, for at most HelloTimeout.
func receive(conn *net.UnixConn) (*Attachment, error) {
	conn.SetReadDeadline(time.Now().Add(HelloTimeout))
	a := &Attachment{conn: conn, done: make(chan struct{}), unready: make(chan []wire.Unready, 1)}
	var said json.RawMessage
	descriptors, err := seqpacket.Receive(conn, &said, MaxFiles)
	if err != nil {
		return nil, fmt.Errorf("read hello: %w", err)
	}
	files := make([]*os.File, len(descriptors))
	for i, descriptor := range descriptors {
		files[i] = os.NewFile(uintptr(descriptor), "capture")
	}
	if a.Hello, err = decodeHello(said); err != nil {
		capture.CloseFiles(files)
		return nil, err
	}
	if a.Capture, err = capture.FromFiles(files); err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Time{})
	return a, nil
}

// Attachment is one sandbox that is served here.
type Attachment struct {
	Hello   Hello
	Capture *capture.Capture

	conn    *net.UnixConn
	done    chan struct{}
	asked   bool // by the client for the sums; to be read after done
	unready chan []wire.Unready
}

// Welcome says to the client that its command may start.
func (a *Attachment) Welcome(w Welcome) error {
	w.Error = ""
	return a.say(welcome{welcomeFormat, w}, HelloTimeout)
}

// Refuse reports to the client why it is not served; the handler then returns.
func (a *Attachment) Refuse(text string) error {
	const longest = 4096
	if len(text) > longest {
		text = text[:longest]
	}
	return a.say(welcome{welcomeFormat, Welcome{Error: text}}, HelloTimeout)
}

// Tell sends the client a record that was closed, where its hello asked for that.
// An error says that it was not sent: the client is slow, or gone.
func (a *Attachment) Tell(r *record.Record) error {
	return a.say(news{Record: r}, tellTimeout)
}

// Asked reports whether the client wants the sums. It is to be called after Done.
func (a *Attachment) Asked() bool { return a.asked }

// Sum is the server's last word: what became of all connections of the sandbox, and
// how many records were not sent one by one.
func (a *Attachment) Sum(s report.Summary, dropped uint64) error {
	for i := range s.Entries {
		if err := a.say(news{Entry: &s.Entries[i]}, HelloTimeout); err != nil {
			return err
		}
	}
	return a.say(news{Sum: &sum{Counts: s.Counts, More: s.More, Dropped: dropped}}, HelloTimeout)
}

func (a *Attachment) say(message any, within time.Duration) error {
	if err := a.conn.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	return seqpacket.Send(a.conn, message)
}

func refuse(conn *net.UnixConn, text string) {
	(&Attachment{conn: conn}).Refuse(text) // an error says that it is gone
}

// Done is closed when the client has ended the attachment or its command has ended,
// or its process is gone. The handler's context ends then too.
func (a *Attachment) Done() <-chan struct{} { return a.done }

// Unready receives which ports of the workload are not ready, after each change since
// the hello. It holds the last of them: the ones before count no more.
func (a *Attachment) Unready() <-chan []wire.Unready { return a.unready }

// watch takes what the client says after its hello, until it says that its command has
// ended. What makes no sense ends the attachment too.
func (a *Attachment) watch() {
	defer close(a.done)
	for {
		var said word
		if _, err := seqpacket.Receive(a.conn, &said, 0); err != nil {
			return
		}
		if said.Ports == nil {
			a.asked = said.Finish
			return
		}
		unready, err := wire.NormalizeUnready(said.Ports.Unready, a.Hello.Ports)
		if err != nil {
			return
		}
		select {
		case <-a.unready: // an older one that nobody took
		default:
		}
		a.unready <- unready
	}
}
