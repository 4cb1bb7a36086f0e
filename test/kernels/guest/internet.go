package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"time"

	"sluice.dev/sluice/internal/tail"
)

// internet is the small internet of the tests, as a process of root's.
type internet struct {
	process *exec.Cmd
	said    tail.Tail
	ended   chan struct{}
}

const (
	netFolder  = "/tmp/internet"
	netSockets = netFolder + "/sockets"
	netCA      = netFolder + "/ca.pem"
	netControl = netFolder + "/control"
)

// start starts it, once.
func (l *lab) start(ctx context.Context) error {
	if l.net != nil {
		return nil
	}
	if err := os.MkdirAll(netFolder, 0o755); err != nil {
		return err
	}
	n := &internet{process: exec.Command("/bin/simnet", "--sockets", netSockets, "--ca", netCA, "--control", netControl), ended: make(chan struct{})}
	n.process.Stderr = &n.said
	if err := n.process.Start(); err != nil {
		return err
	}
	go func() {
		n.process.Wait()
		close(n.ended)
	}()
	for _, file := range []string{netSockets, netCA, netControl} {
		for {
			if _, err := os.Stat(file); err == nil {
				break
			}
			select {
			case <-n.ended:
				return fmt.Errorf("the small internet ended: %s", &n.said)
			case <-ctx.Done():
				return fmt.Errorf("the small internet is not ready: %w; it said %s", ctx.Err(), &n.said)
			case <-time.After(20 * time.Millisecond):
			}
		}
		if err := os.Chmod(file, 0o666); err != nil { // for the user as for root
			return err
		}
	}
	l.net = n
	return nil
}

func (n *internet) close() {
	if n != nil {
		n.process.Process.Signal(os.Interrupt)
		<-n.ended
	}
}

// runInNet runs a command of `sluice run` whose way out is the small internet.
func (l *lab) runInNet(ctx context.Context, w who, arguments ...string) (result, error) {
	if err := l.start(ctx); err != nil {
		return result{}, err
	}
	return w.sluice(ctx, append([]string{"run", "--egress-sockets", netSockets, "--upstream-ca", netCA, "--resolver", "8.8.8.8"}, arguments...)...)
}

// get prints the status of an answer and the start of its body.
func get(arguments []string) error {
	if len(arguments) != 1 {
		return fmt.Errorf("get takes one URL")
	}
	client := http.Client{Timeout: time.Minute}
	answer, err := client.Get(arguments[0])
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 2048))
	fmt.Printf("%s\n%s\n", answer.Status, body)
	return err
}
