// Package doctor says what this machine gives Sluice, and what to do for more. `sluice
// doctor` calls it. It tries what can be tried and leaves nothing behind; what it writes
// for others (WriteJSON) never holds a value of the environment, a name of a user or a
// host, or a path that was chosen here.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"sync"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/rest"
	"sluice.dev/sluice/internal/version"
)

// Bounds of an examination.
const (
	sandboxTime = 20 * time.Second // for one sandbox, which takes some 20 ms
	programTime = 10 * time.Second // for a program to say its version
	serverTime  = 5 * time.Second  // for the server's answer
)

const reportFormat = 1

// Config says what to look at beside the machine.
type Config struct {
	Server string // an address as rest.Config has it; "" is the default one
}

// Report is what was found.
type Report struct {
	Format    int       `json:"format"`
	Version   string    `json:"version"`
	Go        string    `json:"go"`
	OS        string    `json:"os"`
	Arch      string    `json:"arch"`
	UID       int       `json:"uid"`       // -1 where the system has no numbers of users
	Variables []string  `json:"variables"` // those of Sluice that are set
	Programs  []Program `json:"programs"`
	Machine   *Machine  `json:"machine,omitempty"`
	// TransparentProxy says whether nftables has what captures connections.
	TransparentProxy string    `json:"transparentProxy,omitempty"`
	Resolver         *Resolver `json:"resolver,omitempty"`
	Folders          []Folder  `json:"folders"`
	Server           Server    `json:"server"`
	Sandbox          Sandbox   `json:"sandbox"`
	Todo             []string  `json:"todo"` // what to do for more, one sentence each

	hide []hidden
}

// Program is one of ours beside this one, or in PATH.
type Program struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// Resolver is what the machine's resolv.conf says.
type Resolver struct {
	Servers []string `json:"servers"`
	Stub    bool     `json:"stub"` // one of them is on the machine's own loopback
	Problem string   `json:"problem,omitempty"`
}

// Folder is one that Sluice keeps its files in.
type Folder struct {
	Name    string `json:"name"` // "runtime" or "data"
	Path    string `json:"path"`
	Exists  bool   `json:"exists"`
	UID     int    `json:"uid"`
	Mode    string `json:"mode,omitempty"`
	Problem string `json:"problem,omitempty"` // why it would not be used
}

// Server is the sluice-server that commands would ask.
type Server struct {
	Address string `json:"address"`
	Answers bool   `json:"answers"`
	Version string `json:"version,omitempty"`
	Problem string `json:"problem,omitempty"`
	// Proxy says that a sluice-proxy takes sandboxes in the runtime folder.
	Proxy bool `json:"proxy"`

	said string // by whatever answered: for its user alone
}

// Sandbox is what came of making one.
type Sandbox struct {
	Available bool     `json:"available"`
	Level     string   `json:"level,omitempty"`
	Text      string   `json:"text,omitempty"`
	Lowered   []string `json:"lowered"` // what does not hold here but elsewhere
	Notes     []string `json:"notes"`   // what else does not hold
	Reason    string   `json:"reason,omitempty"`
	Problem   string   `json:"problem,omitempty"`
}

// variables are those that Sluice reads. No value of one is reported.
var variables = []string{
	"SLUICE_RUNTIME", "SLUICE_DATA", "SLUICE_SERVER", "SLUICE_EGRESS_SOCKETS", "SLUICE_RESOLVER", "SLUICE_UPSTREAM_CA",
	"SLUICE_CLIENT_CERTIFICATES", "SLUICE_INGRESS", "SLUICE_INGRESS_TLS", "SLUICE_INGRESS_CERTS", "SLUICE_API_LISTEN", "SLUICE_PROXY_NAME", "SLUICE_TELL_ALL",
	"SLUICE_IN_CLUSTER", "SLUICE_KUBECONFIG", "SLUICE_NAMESPACE", "SLUICE_CLUSTER_DOMAIN", "SLUICE_PUSH_LISTEN",
	"SLUICE_ETCD_SERVERS", "SLUICE_ETCD_CAFILE", "SLUICE_ETCD_CERTFILE", "SLUICE_ETCD_KEYFILE", "SLUICE_LOG_LEVEL", "SLUICE_LOG_FORMAT", "SLUICE_METRICS", "SLUICE_SERVER_METRICS", "SLUICE_HEALTH", "SLUICE_OTLP", "SLUICE_ACCESS_LOG", "SLUICE_ACCESS_LOG_FORMAT", "SLUICE_VIA_PROXY", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "SLUICE_WEBHOOK_LISTEN", "SLUICE_INSPECT_LISTEN",
	"SLUICE_SIDECAR_IMAGE", "SLUICE_SIDECAR_PULL_POLICY", "SLUICE_SIDECAR_SERVER",
	"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
}

// Examine looks at everything.
func Examine(ctx context.Context, c Config) *Report {
	r := &Report{
		Format: reportFormat, Version: version.String(), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, UID: os.Geteuid(),
		Variables: []string{}, Todo: []string{}, Sandbox: Sandbox{Lowered: []string{}, Notes: []string{}},
	}
	for _, name := range variables {
		if os.Getenv(name) != "" {
			r.Variables = append(r.Variables, name)
		}
	}
	for _, name := range []string{"sluice-server", "sluice-proxy", "kubectl-sluice"} {
		r.Programs = append(r.Programs, examineProgram(ctx, name))
	}
	r.examineFolders()
	r.examineServer(ctx, c.Server)
	r.examineMachine(ctx)
	return r
}

// aVersion is what a version looks like, and saidVersion how our programs answer
// --version. What others say in their place is not repeated. Both are large, and every
// start of sluice would make them.
var (
	aVersion    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9.+-]{1,100}$`) })
	saidVersion = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([a-z-]+) version ([A-Za-z0-9.+-]{1,100})\s*$`) })
)

func examineProgram(ctx context.Context, name string) Program {
	p := Program{Name: name}
	path, err := paths.Program(name)
	if err != nil {
		p.Problem = "neither beside sluice nor in PATH"
		return p
	}
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second // a child of its that holds the pipe
	said, err := cmd.Output()
	found := saidVersion().FindSubmatch(said)
	switch {
	case err != nil:
		p.Problem = "it does not report its version"
	case found == nil || string(found[1]) != name:
		p.Problem = "what is there by that name is another program"
	default:
		p.Version = string(found[2])
	}
	return p
}

func (r *Report) examineFolders() {
	runtimeFolder, shown := paths.RuntimeFrom("")
	r.Folders = append(r.Folders, r.examineFolder("runtime", runtimeFolder, shown))
	data, shown, err := paths.DataFrom("")
	if err != nil {
		r.Folders = append(r.Folders, Folder{Name: "data", UID: -1, Problem: err.Error()})
		return
	}
	r.Folders = append(r.Folders, r.examineFolder("data", data, shown))
}

func (r *Report) examineFolder(name, path, shown string) Folder {
	r.hide = append(r.hide, hidden{path, shown})
	f := Folder{Name: name, Path: path, UID: -1}
	state, err := paths.StateOf(path)
	switch {
	case errors.Is(err, os.ErrNotExist): // it is made when it is needed
	case errors.Is(err, os.ErrPermission):
		f.Problem = "a folder above it is closed to this user"
	case err != nil:
		f.Problem = err.Error()
	default:
		f.Exists, f.UID, f.Mode = true, state.UID, fmt.Sprintf("%04o", state.Mode)
		if err := paths.Check(path); err != nil {
			f.Problem = err.Error()
		}
	}
	return f
}

func (r *Report) examineServer(ctx context.Context, server string) {
	if server != "" {
		r.hide = append(r.hide, hidden{server, "the address that was given"})
	}
	client, err := rest.New(rest.Config{Server: server, Timeout: serverTime})
	if err != nil {
		r.Server.Problem, r.Server.said = "the address of --server or SLUICE_SERVER is not valid", err.Error()
		return
	}
	defer client.Close()
	if r.Server.Address = client.Address(); server != "" {
		r.hide = append(r.hide, hidden{r.Server.Address, "the address that was given"})
	}
	var answer inspect.VersionAnswer
	err = client.Sluice(ctx, inspect.VersionPath, nil, &answer)
	switch {
	case err == nil && !aVersion().MatchString(answer.Version.Version):
		r.Server.Problem = "the server reports no version"
	case err == nil:
		r.Server.Answers, r.Server.Version = true, answer.Version.Version
		if r.Server.Version != r.Version {
			r.Todo = append(r.Todo, fmt.Sprintf("restart the server with the sluice-server of this version: it is %s, and this sluice %s", r.Server.Version, r.Version))
		}
	case errors.Is(err, rest.ErrNoServer):
		r.Server.Problem, r.Server.said = rest.ErrNoServer.Error(), err.Error()
	default:
		r.Server.Problem, r.Server.said = "what answers is not a sluice-server of this version", err.Error()
	}
}
