package sandbox

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
)

// sshServerRole is an ssh server on its standard streams, which lets anybody in. It
// leaves a line in its home for each connection.
func sshServerRole([]string) int {
	count, err := os.OpenFile(filepath.Join(os.Getenv("HOME"), "connections"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(count, "one")
	count.Close()
	ours, theirs := net.Pipe()
	go func() {
		buffer := make([]byte, 32<<10)
		for {
			n, err := os.Stdin.Read(buffer)
			if err != nil {
				os.Exit(0)
			}
			theirs.Write(buffer[:n])
		}
	}()
	go func() {
		buffer := make([]byte, 32<<10)
		for {
			n, err := theirs.Read(buffer)
			if err != nil {
				os.Exit(0)
			}
			os.Stdout.Write(buffer[:n])
		}
	}()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return 1
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return 1
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	_, channels, requests, err := ssh.NewServerConn(ours, config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		channel, requests, err := offered.Accept()
		if err != nil {
			return 1
		}
		go func() {
			for request := range requests {
				if request.Type != "exec" {
					request.Reply(false, nil)
					continue
				}
				var wanted struct{ Command string }
				ssh.Unmarshal(request.Payload, &wanted)
				request.Reply(true, nil)
				output, _ := exec.Command("sh", "-c", wanted.Command).Output()
				channel.Write(output)
				channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{}))
				channel.Close()
			}
		}()
	}
	return 0
}

// OpenSSH binds the socket of a shared connection under one name, and gives it its own
// by a hard link.
func TestOpenSSHSharesOneConnection(t *testing.T) {
	needProgram(t, "ssh")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder := newOutside(t).folder
	script := `
		s() { ssh -F /dev/null -o ControlPath="$PWD/c" -o ControlMaster=auto -o ControlPersist=60 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
			-o LogLevel=ERROR -o ProxyCommand='env ` + roleVariable + `=ssh-server ` + self + `' "$@"; }
		s user@host.example echo first </dev/null
		s user@host.example echo second </dev/null
		s -O check user@host.example 2>&1 | grep -o 'Master running'
		s -O exit user@host.example 2>/dev/null`
	output, exit := newPlace(t, Config{Command: []string{"sh", "-c", script}, Dir: folder, Env: append(os.Environ(), "HOME="+folder)}).run(t)
	connections, err := os.ReadFile(filepath.Join(folder, "connections"))
	if exit != 0 || output != "first\nsecond\nMaster running\n" || bytes.Count(connections, []byte("\n")) != 1 {
		t.Errorf("exit %d: %q; connections %q, %v", exit, output, connections, err)
	}
}
