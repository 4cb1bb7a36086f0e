package capture

import (
	"net"
	"sync"
	"time"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

// sayTimeout is how long the other end may leave unread what is said to it. One that was
// stopped gets no answers any more.
const sayTimeout = time.Second

// Questions are those of the Asker in a captured namespace, as the proxy receives them.
type Questions struct {
	conn *net.UnixConn

	mu    sync.Mutex // makes what is said of the rules come in order
	rules uint64
}

func newQuestions(conn *net.UnixConn) *Questions { return &Questions{conn: conn} }

// Serve hands questions to answer, one after the other, until Close, or until the other
// end is gone or says what makes no sense. Answer must not wait, and see to it that say
// is called once. While MaxQuestions are not answered, no more are taken.
func (q *Questions) Serve(answer func(asked Connecting, say func(Answer))) error {
	defer q.conn.Close() // or the other end would hold connections back for nobody
	open := make(chan struct{}, MaxQuestions)
	var buffer [maxQuestionSize + 1]byte
	for {
		b, err := receiveMessage(q.conn, &buffer)
		if err != nil {
			return err
		}
		one, err := decodeAsked(b)
		if err != nil {
			return err
		}
		open <- struct{}{}
		q.mu.Lock()
		rules := q.rules
		q.mu.Unlock()
		answer(one.Connecting, func(a Answer) {
			<-open
			q.say(told{Format: questionsFormat, Number: one.Number, Errno: int(a.Errno), Always: a.Always, Rules: rules})
		})
	}
}

// Rules says that other rules are in force, and on which ports nothing is to be asked
// about by them. Nothing is asked before the first call.
func (q *Questions) Rules(quiet []uint16) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rules++
	q.say(told{Format: questionsFormat, Rules: q.rules, InUse: &ruling{Quiet: quiet}})
}

func (q *Questions) say(message told) {
	q.conn.SetWriteDeadline(time.Now().Add(sayTimeout))
	if err := seqpacket.Send(q.conn, message); err != nil {
		q.conn.Close() // what it holds back goes on
	}
}

// Close ends Serve.
func (q *Questions) Close() error { return q.conn.Close() }
