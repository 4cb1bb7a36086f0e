package notify

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestAServiceTellsSystemdItsStates(t *testing.T) {
	for name, address := range map[string]string{
		"a file":          filepath.Join(t.TempDir(), "n"),
		"an abstract one": "@sluice-notify-" + filepath.Base(t.TempDir()),
	} {
		t.Run(name, func(t *testing.T) {
			socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
			if err != nil {
				t.Skip(err) // abstract sockets are Linux's
			}
			defer socket.Close()
			t.Setenv(variable, address)
			s := Take()
			if left, set := os.LookupEnv(variable); set {
				t.Errorf("%s=%s is left to commands", variable, left)
			}
			for _, state := range []string{Ready, Stopping} {
				s.Tell(state)
				said := make([]byte, 64)
				n, err := socket.Read(said)
				if err != nil || string(said[:n]) != state {
					t.Errorf("it said %q, %v; want %s", said[:n], err, state)
				}
			}
		})
	}
}

func TestWithoutSystemdNothingIsSaid(t *testing.T) {
	t.Setenv(variable, "")
	Take().Tell(Ready)
	Socket(filepath.Join(t.TempDir(), "nobody")).Tell(Ready)
}
