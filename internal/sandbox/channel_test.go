package sandbox

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

func TestInitRefusesAChannelOfAnotherFormat(t *testing.T) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	init, err := os.StartProcess("/proc/self/exe", []string{initName, "true"}, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, theirs},
	})
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := seqpacket.Send(ours, setup{Format: channelFormat + 1}); err != nil {
		t.Fatal(err)
	}
	var outcome ready
	if _, err := seqpacket.Receive(ours, &outcome, 0); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("the channel between sluice and its sandbox has format %d; this Sluice reads format %d", channelFormat+1, channelFormat)
	if outcome.Failure == nil || !strings.Contains(outcome.Failure.Text, want) {
		t.Errorf("it answers %+v", outcome.Failure)
	}
	state, err := init.Wait()
	if err != nil || state.ExitCode() != exitInit {
		t.Errorf("it ended with %v, %v", state, err)
	}
}

func TestAnInitOfAnotherFormatIsRefused(t *testing.T) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	// What it says is there before it is asked.
	init, err := net.FileConn(theirs)
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer init.Close()
	if err := seqpacket.Send(init.(*net.UnixConn), ready{Format: channelFormat + 1}); err != nil {
		t.Fatal(err)
	}
	s := &Sandbox{control: ours, group: new(group), process: &os.Process{Pid: os.Getpid()}}
	err = s.setUp(t.Context(), &Config{})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("has format %d; this Sluice reads format %d: upgrade this Sluice", channelFormat+1, channelFormat)) {
		t.Errorf("got %v", err)
	}
}
