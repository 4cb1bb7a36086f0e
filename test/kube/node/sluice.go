package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"sluice.dev/sluice/test/kube/cluster"
)

// Trust is where the proxy of a node finds the authority of the small internet; the image of
// make images has none, as the roots of the real one are in the program.
const trust = "/etc/ssl/internet.pem"

// ImportSluice imports the images that make images wrote, by the folder of their archives,
// and returns their hub and tag.
func (n *Node) ImportSluice(ctx context.Context, folder string, internet *Internet) (hub, tag string, err error) {
	for _, name := range []string{"sluice-server", "sluice-proxy"} {
		archive := filepath.Join(folder, name+"-"+runtime.GOARCH+".tar")
		image, err := ReadImage(archive)
		if err != nil {
			return "", "", fmt.Errorf("%w: make images writes it", err)
		}
		if name == "sluice-proxy" {
			image.Files[strings.TrimPrefix(trust, "/")] = internet.CA
			image.Env = append(image.Env, "SSL_CERT_FILE="+trust)
			archive = n.in(name + ".tar")
			if err := image.Write(archive); err != nil {
				return "", "", err
			}
		}
		if err := n.Import(ctx, archive); err != nil {
			return "", "", err
		}
		slash, colon := strings.LastIndex(image.Name, "/"), strings.LastIndex(image.Name, ":")
		if slash < 0 || colon < slash {
			return "", "", fmt.Errorf("%s: the image is called %q", archive, image.Name)
		}
		hub, tag = image.Name[:slash], image.Name[colon+1:]
	}
	return hub, tag, nil
}

// bookinfo are the images of the sample under the names that its files use.
var bookinfo = map[string]struct {
	role string
	env  []string
}{
	"productpage-v1": {"productpage", nil},
	"details-v1":     {"details", nil},
	"details-v2":     {"details", []string{"ENABLE_EXTERNAL_BOOK_SERVICE=true"}},
	"ratings-v1":     {"ratings", nil},
	"reviews-v1":     {"reviews", nil},
	"reviews-v2":     {"reviews", []string{"ENABLE_RATINGS=true"}},
	"reviews-v3":     {"reviews", []string{"ENABLE_RATINGS=true", "STAR_COLOR=red"}},
}

// ImportBookinfo imports the application of the sample, out of the program of make build.
func (n *Node) ImportBookinfo(ctx context.Context, program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("%w: make build writes it", err)
	}
	for name, each := range bookinfo {
		if err := n.importImage(ctx, &Image{
			Name: "docker.io/istio/examples-bookinfo-" + name + ":0.2.3", Files: map[string][]byte{"bookinfo": content},
			Entrypoint: []string{"/bookinfo", each.role, "9080"}, Env: each.env, User: "1000",
		}); err != nil {
			return err
		}
	}
	return nil
}

// ImportPause imports what holds the namespaces of a Pod, which is a program of the caller's.
func (n *Node) ImportPause(ctx context.Context, program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	return n.importImage(ctx, &Image{Name: pauseImage, Files: map[string][]byte{"pause": content}, Entrypoint: []string{"/pause"}, User: "1000"})
}

func (n *Node) importImage(ctx context.Context, image *Image) error {
	archive := n.in("image.tar")
	if err := image.Write(archive); err != nil {
		return err
	}
	return n.Import(ctx, archive)
}

// Command runs a program as somebody who sits at the cluster: kubectl is in PATH, and its
// current context is this cluster.
func (n *Node) Command(ctx context.Context, input, program string, args ...string) (cluster.Result, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	cmd.Env = n.Environment()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return cluster.Result{}, err
	}
	return cluster.Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}, nil
}

// Home is the folder of whoever Command is run as.
func (n *Node) Home() string { return n.dir }

// Environment is that of Command.
func (n *Node) Environment() []string {
	return []string{"PATH=" + n.Binaries + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + n.dir, "KUBECONFIG=" + n.Kubeconfig, "TERM=" + os.Getenv("TERM")}
}

// ImportProgram imports an image of one program, and of files by their paths in it.
func (n *Node) ImportProgram(ctx context.Context, name, program string, files map[string]string) error {
	image := &Image{Name: name, Files: make(map[string][]byte), Entrypoint: []string{"/" + filepath.Base(program)}, User: "1000"}
	for at, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		image.Files[at] = content
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	image.Files[filepath.Base(program)] = content
	return n.importImage(ctx, image)
}

// KillOf sends SIGKILL to the processes of a program in a Pod, and returns how many there were:
// as the kernel does when memory runs out.
func (n *Node) KillOf(pod, program string) (killed int, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		environ, err := os.ReadFile(file)
		command, other := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if err != nil || other != nil {
			continue // it has ended
		}
		first, _, _ := strings.Cut(string(command), "\x00")
		if filepath.Base(first) != program || !slices.Contains(strings.Split(string(environ), "\x00"), "HOSTNAME="+pod) {
			continue
		}
		number, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return killed, err
		}
		if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
			return killed, err
		}
		killed++
	}
	return killed, nil
}
