package proxy

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers are the packages of the data plane from the bottom up: each imports packages of
// layers below its own alone. The engines below carry know nothing of grants or ways.
var layers = [][]string{
	{"rawio", "poller", "exchange", "share", "keyfiles"},
	{"http2", "tlsio"},
	{"dnsserver", "relay", "resolve", "sniff", "tunnel", "upstream", "circuit"},
	{"snapshot", "proof", "http1", "loop"},
	{"gate", "pools", "balance"},
	{"carry"},
	{"follow"},
	{"egress", "mesh"},
	{"ingress"},
	{"."},
}

// Imports point one way, from the assembly at the root to the ways, to the gate, to what
// they are made of: a way does not know the root, nor another way, but that ingress goes
// on by the way of mesh; and nobody here knows the control plane or the command line.
func TestImportsPointOneWay(t *testing.T) {
	const module = "sluice.dev/sluice/internal/"
	layerOf := func(name string) int {
		return slices.IndexFunc(layers, func(l []string) bool { return slices.Contains(l, name) })
	}
	folders, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"."}
	for _, f := range folders {
		if f.IsDir() && f.Name() != "testdata" {
			names = append(names, f.Name())
		}
	}
	seen := 0
	for _, name := range names {
		layer := layerOf(name)
		if layer < 0 {
			t.Errorf("%s has no layer", name)
			continue
		}
		files, err := filepath.Glob(filepath.Join(name, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range parsed.Imports {
				path, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				path, ours := strings.CutPrefix(path, module)
				if !ours {
					continue
				}
				seen++
				first, rest, _ := strings.Cut(path, "/")
				switch {
				case first == "proxy" && (rest == "" || layerOf(rest) >= layer):
					t.Errorf("%s imports %s", file, path)
				case slices.Contains([]string{"control", "cli", "run", "demo", "inspect"}, first):
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d imports were looked at", seen)
	}
}
