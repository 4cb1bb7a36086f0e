package test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/backup"
	"sluice.dev/sluice/internal/rest"
	"sluice.dev/sluice/test/mesh"
)

// A writer gives two objects of different kinds the same number, the one whose kind is
// listed first before the other. At one revision the first is never behind; in lists
// taken one after the other it soon is.
func TestABackupUnderWritesIsOfOneMomentAndComesBackInAnEmptyFolder(t *testing.T) {
	users := mesh.Users(t)
	place := mesh.NewPlace(t, users[0]) // this process speaks to the server too
	server := place.StartServer(t)
	client, err := rest.New(rest.Config{Server: place.Runtime})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	kinds := api.Kinds()
	rules := place.Run(t, `
kind: EgressRule
metadata: {name: first, namespace: default}
spec: {destination: {service: "*.example.com"}, ports: [{port: 443, protocol: https}]}
---
apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: second, namespace: books, annotations: {note: "a\nb"}}
spec: {to: {hosts: [www.example.com], ports: [{port: 443, protocol: https}]}}
---
apiVersion: sluice.dev/v1alpha1
kind: MeshConfig
metadata: {name: default}
spec: {}
`, "sluice", "create", "-f", "-")
	if rules.Code != 0 {
		t.Fatalf("%+v", rules)
	}
	first, second := position(kinds, "EgressRule"), position(kinds, "EgressPolicy")
	if first > second {
		t.Fatal("EgressPolicy is listed before EgressRule: exchange them in this test")
	}

	writing, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var wrote atomic.Int64
	go func() {
		for number := 0; writing.Err() == nil; number++ {
			for _, o := range []struct{ kind, namespace, name string }{{"EgressRule", "default", "first"}, {"EgressPolicy", "books", "second"}} {
				stored, err := client.Get(t.Context(), kinds[position(kinds, o.kind)], o.namespace, o.name)
				if err == nil {
					stored.Metadata.Labels = map[string]string{"number": fmt.Sprint(number)}
					stored.Metadata.ResourceVersion = ""
					_, _, err = client.Update(t.Context(), &stored, rest.Replace)
				}
				if err != nil {
					done <- err
					return
				}
			}
			wrote.Add(1)
		}
		done <- nil
	}()
	file := filepath.Join(filepath.Dir(place.Runtime), "saved")
	for n := 0; n < 10 || wrote.Load() < 10 && len(done) == 0; n++ { // fewer changes would prove nothing
		if r := place.Sluice(t, "backup", file); r.Code != 0 || !strings.HasPrefix(r.Stdout, "Wrote 3 objects of revision ") {
			t.Fatalf("%+v", r)
		}
		numbers := map[string]int{}
		for _, o := range readBackup(t, file) {
			var n int // 0 where no number was written yet
			fmt.Sscan(o.Metadata.Labels["number"], &n)
			numbers[o.Kind] = n
		}
		if a, b := numbers["EgressRule"], numbers["EgressPolicy"]; a != b && a != b+1 {
			t.Errorf("the backup is of two moments: the rule, which is written first, has %d and the policy %d", a, b)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if r := place.Sluice(t, "backup", file); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v: only its owner may read it", info.Mode(), err)
	}
	server.Stop(t)

	empty := mesh.NewPlace(t, users[0])
	empty.StartServer(t)
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"restore", file, "--dry-run"}, "Would have created config egress-rule/default/first\n"},
		{[]string{"restore", file}, "Created config egress-policy/books/second\n"},
		{[]string{"restore", file}, "3 objects of the backup, 3 as they were\n"},
	} {
		if r := empty.Sluice(t, step.args...); r.Code != 0 || !strings.Contains(r.Stdout, step.want) {
			t.Fatalf("%v: %+v", step.args, r)
		}
	}
	again := filepath.Join(filepath.Dir(empty.Runtime), "saved")
	if r := empty.Sluice(t, "backup", again); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	if got, want := asText(t, readBackup(t, again)), asText(t, readBackup(t, file)); got != want {
		t.Errorf("restored\n%s\nof\n%s", got, want)
	}
}

func TestARestoreThatTheServerRefusesChangesNothing(t *testing.T) {
	place := mesh.NewPlace(t, mesh.Users(t)[0])
	place.StartServer(t)
	objects, err := api.Decode("rules", strings.NewReader(`
kind: EgressRule
metadata: {name: fine, namespace: default}
spec: {destination: {service: "*.example.com"}, ports: [{port: 443, protocol: https}]}
---
apiVersion: sluice.dev/v1alpha1
kind: MeshConfig
metadata: {name: default}
spec: {}
`))
	if err != nil {
		t.Fatal(err)
	}
	// Too large for the store, which only the server knows.
	objects[1].Metadata.Annotations = map[string]string{"note": strings.Repeat("x", 300<<10)}
	file := filepath.Join(filepath.Dir(place.Runtime), "saved")
	var b strings.Builder
	if err := backup.Write(&b, backup.Head{}, objects); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	r := place.Sluice(t, "restore", file)
	if r.Code != 1 || !strings.Contains(r.Stderr, "mesh-config/default") {
		t.Errorf("%+v", r)
	}
	if r := place.Sluice(t, "get", "egressrules", "fine"); r.Code == 0 {
		t.Errorf("a part was restored: %+v", r)
	}
}

func position(kinds []*api.Kind, name string) int {
	for i, kind := range kinds {
		if kind.Name == name {
			return i
		}
	}
	return -1
}

func readBackup(t *testing.T, file string) []api.Object {
	t.Helper()
	opened, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	_, objects, err := backup.Read(file, opened)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func asText(t *testing.T, objects []api.Object) string {
	t.Helper()
	var all strings.Builder
	for i := range objects {
		text, err := json.Marshal(backup.Plain(&objects[i]))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(append(text, '\n'))
	}
	return all.String()
}
