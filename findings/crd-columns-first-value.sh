#!/usr/bin/env bash
#
# A printer column of a CustomResourceDefinition whose path ends in [*] shows the
# first value alone.
#
# Versions: Go module k8s.io/apiextensions-apiserver v0.37.2, which is what an API
#   server makes the tables of `kubectl get` with.
#
# Expected: the JSONPath of a column selects each element of a list with [*], as it
#   does with `kubectl get -o jsonpath`, which prints all of them.
#
# Seen: ".spec.ports[*].port" of an object with the ports 443 and 22 shows 443, and
#   ".spec.hosts[*]" the first host. No error, no sign that there are more. The path
#   of the list itself, ".spec.hosts", shows the whole list, as JSON.
#
# Why it matters here: a table says of a rule that it opens port 443 and hides that
#   it opens 22 too. Whoever reviews rules by the table does not see them.
#
# Needs: bash, Go.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOTOOLCHAIN=go1.27.4 GOFLAGS=-mod=mod
cat > go.mod <<'M'
module finding

go 1.26.0

require k8s.io/apiextensions-apiserver v0.37.2
M
cat > main.go <<'G'
package main

import (
	"context"
	"fmt"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource/tableconvertor"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"
)

func main() {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Route", "metadata": map[string]any{"name": "a"},
		"spec": map[string]any{
			"hosts": []any{"a.example", "b.example"},
			"ports": []any{map[string]any{"port": int64(443)}, map[string]any{"port": int64(22)}},
		},
	}}
	for _, path := range []string{".spec.hosts", ".spec.hosts[*]", ".spec.ports[*].port"} {
		convertor, err := tableconvertor.New([]apiextensions.CustomResourceColumnDefinition{{Name: "Column", Type: "string", JSONPath: path}})
		if err != nil {
			panic(err)
		}
		table, err := convertor.ConvertToTable(context.Background(), object, nil)
		if err != nil {
			panic(err)
		}
		query := jsonpath.New("query")
		if err := query.Parse("{" + path + "}"); err != nil {
			panic(err)
		}
		found, err := query.FindResults(object.Object)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s: the column shows %v; the path selects %d\n", path, table.Rows[0].Cells[1], len(found[0]))
	}
}
G
go mod tidy > tidy.log 2>&1
go run . | tee seen
diff seen - <<'S'
.spec.hosts: the column shows ["a.example","b.example"]; the path selects 1
.spec.hosts[*]: the column shows a.example; the path selects 2
.spec.ports[*].port: the column shows 443; the path selects 2
S
