#!/usr/bin/env bash
#
# A metric whose name is quoted loses its value in a JavaScript reader of Prometheus' text.
#
# Versions: Go module github.com/prometheus/common v0.74.0; PyPI prometheus-client 0.26.0;
#   npm parse-prometheus-text-format 1.1.1.
#
# Expected: since Prometheus 3 a name may hold any character, OpenTelemetry's dots for
#   instance; the text format then has it quoted, as the first thing between the braces:
#   {"http.requests",code="200"} 5. A reader that does not know that says so.
#
# Seen: Go's expfmt and Python's client read name, labels and value. In
#   parse-prometheus-text-format the name of the family keeps its quotation marks, the
#   metric's name and the first label's become one name of a label, and the value is
#   missing: {"labels":{"\"http.requests\",code":"200"}}. There is no error.
#
# Why it matters here: whether names are quoted is asked for by the scraper (Accept:
#   escaping=allow-utf-8), so a proxy that exposes dotted names serves both forms, and
#   dashboards and tests that read /metrics themselves are where it goes wrong.
#
# Needs: bash, Go, Python 3 with venv, Node.js with npm.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/go" "$dir/js"
cat > "$dir/text" <<'E'
# TYPE "http.requests" gauge
{"http.requests",code="200"} 5
{"http.requests","a.b"="x"} 6
E

cd "$dir/go"
export GOTOOLCHAIN=go1.27.4 GOFLAGS=-mod=mod
cat > go.mod <<'E'
module finding

go 1.26.0

require github.com/prometheus/common v0.74.0
E
cat > main.go <<'E'
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func main() {
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	for name, family := range families {
		for _, metric := range family.Metric {
			fmt.Printf("expfmt: %s %s=%s %v\n", name, metric.Label[0].GetName(), metric.Label[0].GetValue(), metric.Gauge.GetValue())
		}
	}
}
E
go run . < "$dir/text" > "$dir/out"

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check prometheus-client==0.26.0
"$dir/py/bin/python" - "$dir/text" >> "$dir/out" <<'E'
import sys
from prometheus_client.parser import text_string_to_metric_families

for family in text_string_to_metric_families(open(sys.argv[1]).read()):
    for s in family.samples:
        print(f"prometheus-client: {s.name} {s.labels} {s.value}")
E

cd "$dir/js"
npm install --silent --no-audit --no-fund --ignore-scripts parse-prometheus-text-format@1.1.1
node -e '
const m = require("parse-prometheus-text-format");
console.log("parse-prometheus-text-format:", JSON.stringify((m.default || m)(require("fs").readFileSync(process.argv[1], "utf8"))));
' "$dir/text" >> "$dir/out"

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
expfmt: http.requests code=200 5
expfmt: http.requests a.b=x 6
prometheus-client: http.requests {'code': '200'} 5
prometheus-client: http.requests {'a.b': 'x'} 6
parse-prometheus-text-format: [{"name":"\"http.requests\"","help":"","type":"GAUGE","metrics":[{"labels":{"\"http.requests\",code":"200"}},{"labels":{"\"http.requests\",\"a.b\"":"x"}}]}]
E
