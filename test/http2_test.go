package test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// ends is the folder of the programs that speak HTTP/2 and gRPC in these tests.
func ends(t *testing.T) string {
	t.Helper()
	return mesh.Build(t, "./test/mesh/cmd/http2", "./test/mesh/cmd/grpc")
}

// curlOfHTTP2 is curl, where it speaks HTTP/2.
func curlOfHTTP2(t *testing.T) string {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err == nil {
		var said []byte
		if said, err = exec.Command(curl, "--version").Output(); err == nil && !strings.Contains(string(said), "HTTP2") {
			err = fmt.Errorf("curl speaks no HTTP/2")
		}
	}
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatalf("%v: under CI it must be there", err)
	case err != nil:
		t.Skip(err)
	}
	return curl
}

// Between workloads, and from outside, a client speaks the version that it has and a service the
// one that its port is, whichever programs the two are.
func TestClientsAndServicesOfHTTP2AndOfGRPCReachOneAnother(t *testing.T) {
	curl, ends := curlOfHTTP2(t), ends(t)
	at := freePort(t)
	m := startMachinery(t, mesh.User{Name: "user", UID: -1}, "--ingress", at, "--ingress-route", "/health=details:9080", "--ingress-route", "/.*=web:8080")
	m.Background(t, nil, "sluice", "run", "--service", "details", "--listen", "9080", "--", m.Bin+"/bookinfo", "details", "9080")
	m.Background(t, nil, "sluice", "run", "--service", "web", "--listen", "8080/http2", "--", ends+"/http2", "serve", ":8080")
	m.Background(t, nil, "sluice", "run", "--service", "greeter", "--listen", "50051/grpc", "--", ends+"/grpc", "serve", ":50051")
	inside := func(args ...string) func() mesh.Result {
		return func() mesh.Result {
			return m.Sluice(t, append([]string{"run", "--service", "caller", "--"}, args...)...)
		}
	}
	outside := func(args ...string) func() mesh.Result {
		return func() mesh.Result { return m.Run(t, "", curl, args...) }
	}
	const told = " by HTTP/%{http_version}, %{http_code}"
	for what, x := range map[string]struct {
		run  func() mesh.Result
		want string
	}{
		"grpc-go, a call and a stream":                                 {inside(ends+"/grpc", "call", "greeter:50051", "a"), "call: a\nstream: a0\nstream: a1\nstream: a2\n"},
		"net/http to net/http":                                         {inside(ends+"/http2", "post", "http://web:8080/x", "some text"), "HTTP/2.0 200: HTTP/2.0 POST some text (9 bytes)\n"},
		"curl by prior knowledge":                                      {inside(curl, "-sS", "--http2-prior-knowledge", "-d", "a", "-w", told, "http://web:8080/"), "HTTP/2.0 POST a by HTTP/2, 200"},
		"curl in HTTP/1.1 to a port that is http2":                     {inside(curl, "-sS", "-d", "a", "-w", told, "http://web:8080/"), "HTTP/2.0 POST a by HTTP/1.1, 200"},
		"curl that asks for an upgrade":                                {inside(curl, "-sS", "--http2", "-w", told, "http://web:8080/"), "HTTP/2.0 GET  by HTTP/1.1, 200"},
		"curl from outside by prior knowledge":                         {outside("-sS", "--http2-prior-knowledge", "-d", "a", "-w", told, "http://"+at+"/x"), "HTTP/2.0 POST a by HTTP/2, 200"},
		"curl from outside by prior knowledge, to an HTTP/1.1 service": {outside("-sS", "--http2-prior-knowledge", "-o", "/dev/null", "-w", told, "http://"+at+"/health"), " by HTTP/2, 200"},
		"curl from outside in HTTP/1.1":                                {outside("-sS", "-d", "a", "-w", told, "http://"+at+"/x"), "HTTP/2.0 POST a by HTTP/1.1, 200"},
	} {
		mesh.Eventually(t, func() string { // each service is there once its workload has joined
			if r := x.run(); r.Code != 0 || r.Stdout != x.want {
				return fmt.Sprintf("%s: exit %d, %q and %q; want %q", what, r.Code, r.Stdout, r.Stderr, x.want)
			}
			return ""
		})
	}
	r := m.Sluice(t, "flows", "--last", "100", "-o", "json")
	if !strings.Contains(r.Stdout, `"path":"/test.Echo/Stream"`) || !strings.Contains(r.Stdout, `"path":"/x"`) {
		t.Errorf("the methods of gRPC and the paths are not recorded:\n%s%s", r.Stdout, r.Stderr)
	}
}

// A call in the clear to a host that no rule allows ends at once, with the rule that would
// allow it, and is one denial.
func TestACallOfGRPCThatIsDeniedSaysSoAtOnce(t *testing.T) {
	ends := ends(t)
	eachUser(t, func(t *testing.T, a *alone) {
		r := a.run(t, "--allow", "www.example.com:80", "--", ends+"/grpc", "call", hostile+":80", "a")
		if r.Code != 1 || !strings.HasPrefix(r.Stdout, "PermissionDenied: Sluice denied this call: ") || !strings.Contains(r.Stdout, "kind: EgressPolicy") || !strings.Contains(r.Stdout, "- "+hostile+"\n") {
			t.Errorf("exit %d, %q and %q", r.Code, r.Stdout, r.Stderr)
		}
		if n := strings.Count(r.Stderr, "denied "+hostile+":80"); n != 1 {
			t.Errorf("reported %d times: %s", n, r.Stderr)
		}
	})
}
