package peer

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"
)

func TestCredentialsNameTheProcessOfAPeerThatMayConnect(t *testing.T) {
	listener, path := socketFor(t)
	command := exec.Command(binary(t), path)
	command.Env = append(os.Environ(), roleVariable+"=plain")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer command.Wait()
	conn := accept(t, listener)
	defer conn.Close()
	if got, err := (Credentials{}).Authenticate(conn); err != nil || got.PID != command.Process.Pid {
		t.Errorf("got %+v, %v; the process is %d", got, err, command.Process.Pid)
	}
}

func TestCredentialsRefuseWhomTheyDoNotKnow(t *testing.T) {
	listener, path := socketFor(t)
	command := exec.Command(binary(t), path)
	command.Env = append(os.Environ(), roleVariable+"=filtered")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer command.Wait()
	confined := accept(t, listener)
	defer confined.Close()
	if got, err := (Credentials{}).Authenticate(confined); !errors.Is(err, ErrSeccomp) || got != (Peer{}) {
		t.Errorf("a confined command: %+v, %v", got, err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	remote, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	if got, err := (Credentials{}).Authenticate(remote); !errors.Is(err, ErrUnknowable) || got != (Peer{}) {
		t.Errorf("a peer over TCP: %+v, %v", got, err)
	}
}
