#!/usr/bin/env bash
#
# Kubernetes' JavaScript client cannot read 1.5Gi, its Python client takes 1K.
#
# Versions: Go module k8s.io/apimachinery v0.37.2; PyPI kubernetes 37.0.2; npm
#   @kubernetes/client-node 1.4.0.
#
# Expected: a quantity is a decimal number with a suffix: n, u, m, k, M, G, T, P, E, or Ki
#   to Ei, or an exponent. 1.5Gi is 1610612736 bytes; a capital K is none (apimachinery's
#   documentation of Quantity says so).
#
# Seen: quantityToScalar of the JavaScript client, by which topNodes and topPods add up
#   what nodes have and containers ask for, makes a BigInt of what stands before a
#   suffix from k on, and throws for a fraction: "Cannot convert 1.5 to a BigInt".
#   parse_quantity of the Python client reads 1K as 1000, which the API server refuses.
#
# Why it matters here: sizes of proxies are often written with a fraction. What the API
#   server has accepted is not what each client can read, and what a check in Python has
#   passed is not what the API server takes.
#
# Needs: bash, Go, Python 3 with venv, Node.js with npm.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/go" "$dir/js"

cd "$dir/go"
export GOTOOLCHAIN=go1.27.4 GOFLAGS=-mod=mod
cat > go.mod <<'E'
module finding

go 1.26.0

require k8s.io/apimachinery v0.37.2
E
cat > main.go <<'E'
package main

import (
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/api/resource"
)

func main() {
	for _, text := range os.Args[1:] {
		said := "error"
		if q, err := resource.ParseQuantity(text); err == nil {
			said = fmt.Sprint(q.AsApproximateFloat64())
		}
		fmt.Printf("apimachinery: %s: %s\n", text, said)
	}
}
E
all="100m 1Ki 1.5Ki 1.5Gi 1.5k 1K 1e3"
go run . $all > "$dir/out"

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check kubernetes==37.0.2
"$dir/py/bin/python" - $all >> "$dir/out" <<'E'
import sys
from kubernetes.utils.quantity import parse_quantity

for text in sys.argv[1:]:
    try:
        said = f"{float(parse_quantity(text)):g}"
    except ValueError:
        said = "error"
    print(f"python: {text}: {said}")
E

cd "$dir/js"
npm install --silent --no-audit --no-fund --ignore-scripts @kubernetes/client-node@1.4.0
cat > main.mjs <<'E'
import { quantityToScalar } from './node_modules/@kubernetes/client-node/dist/util.js';
for (const text of process.argv.slice(2)) {
  try {
    console.log(`client-node: ${text}: ${quantityToScalar(text)}`);
  } catch (e) {
    console.log(`client-node: ${text}: ${e.name}: ${e.message}`);
  }
}
E
node main.mjs $all >> "$dir/out"

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
apimachinery: 100m: 0.1
apimachinery: 1Ki: 1024
apimachinery: 1.5Ki: 1536
apimachinery: 1.5Gi: 1.610612736e+09
apimachinery: 1.5k: 1500
apimachinery: 1K: error
apimachinery: 1e3: 1000
python: 100m: 0.1
python: 1Ki: 1024
python: 1.5Ki: 1536
python: 1.5Gi: 1.61061e+09
python: 1.5k: 1500
python: 1K: 1000
python: 1e3: 1000
client-node: 100m: 0.1
client-node: 1Ki: 1024
client-node: 1.5Ki: SyntaxError: Cannot convert 1.5 to a BigInt
client-node: 1.5Gi: SyntaxError: Cannot convert 1.5 to a BigInt
client-node: 1.5k: SyntaxError: Cannot convert 1.5 to a BigInt
client-node: 1K: Error: Unknown suffix: K
client-node: 1e3: 1000
E
