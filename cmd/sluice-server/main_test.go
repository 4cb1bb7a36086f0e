package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"sluice.dev/sluice/internal/control/server"
	"sluice.dev/sluice/internal/notify"
)

func TestExitStatusesTellWhatWentWrong(t *testing.T) {
	for want, err := range map[int]error{
		exitRunning: fmt.Errorf("start: %w", &server.RunningError{Purpose: "runtime", Folder: "/run/sluice", PID: 7}),
		exitUsage:   usageError{errors.New("--log-level")},
		exitFailed:  errors.New("disk full"),
	} {
		if got := exitStatus(err); got != want {
			t.Errorf("%v: %d", err, got)
		}
	}
}

func TestWrongFlagsAreRefusedBeforeAnythingStarts(t *testing.T) {
	for _, arguments := range [][]string{
		{"--log-level", "loud"}, {"--log-format", "xml"}, {"--api-listen", "15010"}, {"--api-listen", "http://127.0.0.1:15010"}, {"--api-listen", "127.0.0.1:x"}, {"--no-such-flag"}, {"argument"},
		{"--push-listen", ":15012"}, {"--sidecar-image", "registry.example.com/sluice-proxy:1"}, {"--namespace", "mesh"}, {"--in-cluster", "--kubeconfig", "x"},
		{"--etcd-servers", "192.0.2.1:2379"}, {"--etcd-cafile", "ca.pem"},
	} {
		c := newCommand()
		c.SetArgs(append(arguments, "--runtime-dir=/nonexistent/r", "--data-dir=/nonexistent/d"))
		c.SetOut(new(bytes.Buffer))
		if err := c.ExecuteContext(t.Context()); exitStatus(err) != exitUsage {
			t.Errorf("%v: %v", arguments, err)
		}
	}
}

func TestASidecarThatNoPodCouldHaveIsRefused(t *testing.T) {
	for _, wrong := range []struct{ flag, value string }{
		{"sidecar-image", ""}, {"sidecar-image", "a b"}, {"sidecar-pull-policy", "Sometimes"}, {"sidecar-server", "sluice-server"}, {"sidecar-server", "a:70000"}, {"", ""},
	} {
		var o options
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		o.cluster.define(f)
		if wrong.flag != "" {
			if err := f.Set(wrong.flag, wrong.value); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.cluster.check(&o); (err == nil) != (wrong.flag == "") || err != nil && !strings.HasPrefix(err.Error(), "--sidecar-image, --sidecar-pull-policy or --sidecar-server: ") {
			t.Errorf("--%s %q: %v", wrong.flag, wrong.value, err)
		}
	}
}

func TestHelpShowsExamplesAndVariables(t *testing.T) {
	var out bytes.Buffer
	c := newCommand()
	c.SetArgs([]string{"--help"})
	c.SetOut(&out)
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"Examples:", "SLUICE_RUNTIME", "SLUICE_DATA", "SLUICE_LOG_LEVEL", "SLUICE_LOG_FORMAT", "Exit status"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("%q is missing", text)
		}
	}
}

func TestAServerSaysWhenItIsReadyAndStopsAndEndsWithTheFirstFailure(t *testing.T) {
	broken, slow := errors.New("the store is gone"), errors.New("a request did not end")
	for name, c := range map[string]struct {
		failed, stop error
		want         string
	}{
		"asked to":           {nil, nil, ""},
		"it cannot stop":     {nil, slow, "stop: a request did not end"},
		"a part failed":      {broken, nil, "the store is gone"},
		"and it cannot stop": {broken, slow, "the store is gone"},
	} {
		folder := t.TempDir()
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(folder, "n"), Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		if c.failed != nil {
			failed <- c.failed
		} else {
			cancel()
		}
		stopped := false
		got := untilStopped(ctx, notify.Socket(filepath.Join(folder, "n")), failed, func() error { stopped = true; return c.stop }, slog.New(slog.DiscardHandler))
		cancel()
		if text := fmt.Sprint(got); (got == nil) != (c.want == "") || got != nil && text != c.want || !stopped {
			t.Errorf("%s: %v, stopped %t", name, got, stopped)
		}
		for _, want := range []string{notify.Ready, notify.Stopping} {
			buffer := make([]byte, 64)
			n, err := socket.Read(buffer)
			if err != nil || string(buffer[:n]) != want {
				t.Errorf("%s: systemd got %q, %v: want %s", name, buffer[:n], err, want)
			}
		}
		socket.Close()
	}
}
