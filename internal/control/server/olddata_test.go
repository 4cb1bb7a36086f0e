package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/rest"
	"sluice.dev/sluice/test/datafolder"
)

func TestADataFolderOfTheFirstBuildOpens(t *testing.T) {
	c := config(t)
	c.DataDir = datafolder.First(t)
	memory, err := readMemory(filepath.Join(c.DataDir, memoryFile))
	if err != nil || len(memory.Names) != 1 || memory.Names[0].Instance != "details-v2/1" || len(memory.Services) != 1 || memory.Services[0].Service != "details" {
		t.Errorf("of workloads it remembers %+v, %v", memory, err)
	}
	s, err := start(t, c)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.New(rest.Config{Server: c.RuntimeDir})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var listed []string
	for _, kind := range api.Kinds() {
		namespaces := []string{"default", "sluice-system"}
		if !kind.Namespaced {
			namespaces = []string{""}
		}
		for _, namespace := range namespaces {
			objects, err := client.List(t.Context(), kind, namespace)
			if err != nil {
				t.Fatal(err)
			}
			for i := range objects {
				listed = append(listed, objects[i].ID())
			}
		}
	}
	want := slices.Sorted(slices.Values(datafolder.FirstRules))
	if slices.Sort(listed); !slices.Equal(listed, want) {
		t.Errorf("it lists\n%v, not\n%v", listed, want)
	}
	route, err := api.Lookup("routerule")
	if err != nil {
		t.Fatal(err)
	}
	details, err := client.Get(t.Context(), route, "default", "details-v2")
	if err != nil {
		t.Fatal(err)
	}
	const spec = `{"destination":{"name":"details"},"precedence":2,` +
		`"match":{"request":{"headers":{"cookie":{"regex":"^(.*?;)?(user=jason)(;.*)?$"}}}},` +
		`"route":[{"labels":{"version":"v2"},"weight":75},{"labels":{"version":"v1"},"weight":25}]}`
	if got, err := json.Marshal(details.Spec); err != nil || string(got) != spec {
		t.Errorf("the route rule is %s, %v", got, err)
	}
	for url, want := range map[string]string{
		"https://www.googleapis.com/":         "allow egress-rule/default/googleapis",
		"198.51.100.7:5432":                   "allow egress-rule/default/networks",
		"http://www.example.com/books/1":      "allow egress-policy/default/books",
		"http://www.example.com/secret":       "deny ",
		"https://status.example.com/":         "allow egress-policy/sluice-system/everywhere",
		"https://elsewhere.example.com/index": "deny ",
	} {
		code, answer := ask(t, c, "GET", inspect.WhyPath+"?from=details-v2&url="+url, "")
		why := decode[inspect.Why](t, answer)
		got := fmt.Sprint(why.Verdict, " ")
		if why.Verdict == "allow" {
			got += why.Rule
		}
		if code != http.StatusOK || got != want {
			t.Errorf("why %s: %d %s, want %s", url, code, got, want)
		}
	}
	create(t, c, "later", "later.example.com") // and it goes on
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(filepath.Join(c.DataDir, "store.json")); err != nil || string(content) != `{"format":4}` {
		t.Errorf("its format is %q, %v", content, err)
	}
	if _, err := start(t, c); err != nil {
		t.Fatal(err)
	}
	if code, answer := ask(t, c, "GET", egressRules+"/later", ""); code != http.StatusOK {
		t.Errorf("after a restart: %d %s", code, answer)
	}
}
