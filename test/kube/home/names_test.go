package home

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/test/kube/node"
)

// client is a Pod with programs that look names up.
const client = `
apiVersion: v1
kind: Pod
metadata: {name: names, labels: {app: names}}
spec:
  containers:
  - {name: tool, image: "local.test/names:1", imagePullPolicy: Never, args: [serve, "8080"]}
---
apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: names}
spec:
  from: {labels: {app: names}}
  to:
    hosts: ["*.shared.example.org", "*.many.example.org"]
    ports: [{port: 80, protocol: http}]
`

// resolvers are the programs by what looks names up in them, and how each is built.
func resolvers(t *testing.T, dir string) (files map[string]string) {
	t.Helper()
	const source = "../../clients/testdata/first.c"
	files = make(map[string]string)
	for name, command := range map[string][]string{
		"first-glibc": {"gcc", source}, "first-musl": {"musl-gcc", "-static", source}, "first-go": {"go", "build"},
	} {
		if _, err := exec.LookPath(command[0]); err != nil {
			t.Logf("%s is not tried: %v", name, err)
			continue
		}
		path := filepath.Join(dir, name)
		cmd := exec.Command(command[0], append(command[1:], "-o", path)...)
		if name == "first-go" {
			cmd.Args = append(cmd.Args, "./test/clients/first")
			cmd.Dir = "../../.."
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		files[name] = path
	}
	if files["first-glibc"] != "" { // the loader and the library that the program names
		out, err := exec.Command("ldd", files["first-glibc"]).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(out)) {
			if strings.HasPrefix(field, "/") {
				files[strings.TrimPrefix(field, "/")] = field
			}
		}
	}
	return files
}

// What a name is to DNS does not matter to a first connection, right after the answer: under
// the search list and ndots:5 that the kubelet writes, with CoreDNS behind the sidecar.
func TestNoFirstConnectionOfAPodToAnAllowedNameIsDenied(t *testing.T) {
	s := at(t)
	if err := s.ImportProgram(t.Context(), "local.test/names:1", s.Program("tool"), resolvers(t, s.Home())); err != nil {
		t.Fatal(err)
	}
	s.apply(client)
	s.Does("kubectl wait --for=condition=Ready pod/names --timeout=4m && kubectl wait --for=condition=Programmed egresspolicy/names --timeout=2m")
	var many []string // as many first connections as of the others
	for len(many) < node.Firsts {
		many = append(many, node.Many()...)
	}
	for _, program := range []string{"first-glibc", "first-musl", "first-go"} {
		if _, err := os.Stat(filepath.Join(s.Home(), program)); err != nil {
			continue
		}
		for what, list := range map[string][]string{"one address for all": node.Shared(), fmt.Sprint(node.ManyOf, " addresses"): many} {
			path := filepath.Join(s.Home(), "list")
			if err := os.WriteFile(path, []byte(strings.Join(list, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			said := s.Does("kubectl exec -i names -c tool -- /" + program + " < " + path)
			bad := strings.Count(said, "\n") - strings.Count(said, " 200\n")
			if strings.Count(said, "\n") != len(list) || bad > 0 {
				t.Errorf("%s, %s: %d of %d were not answered", program, what, bad, len(list))
			}
		}
	}
	if denied := s.Does(in("kubectl sluice flows --from names.default --denied -o json")); denied != "" {
		t.Errorf("denied: %s", denied)
	}
}
