#!/usr/bin/env bash
#
# What W3C Trace Context 2 may carry ends a trace, or its state, in some SDKs.
#
# Versions: Go module go.opentelemetry.io/otel v1.47.0; npm
#   @opentelemetry/core 2.12.1 with @opentelemetry/api 1.9.1; PyPI
#   opentelemetry-api 1.45.2.
#
# Expected: trace-flags are eight bits, of which a receiver looks at those that it
#   knows; the others are reserved, and whoever passes a context on sets them to
#   zero (Trace Context §3.2.2.5). Level 2 gave one of them a meaning that way,
#   for the same version 00. A key of tracestate may begin with a digit since level
#   2 (§3.3.1.3.1). What cannot be read of tracestate never costs the traceparent.
#
# Seen:
#   - Go drops the whole context as soon as a flag beyond the two of level 2 is set:
#     the trace is broken, and a service behind it begins one of its own.
#     JavaScript and Python read the context, and pass the unknown flag on rather
#     than clear it.
#   - One key that begins with a digit costs Go and Python all of tracestate, the
#     entries of other vendors with it; JavaScript drops that entry alone.
#
# Why it matters here: a mesh stands between services of several languages, and joins
#   a trace that it did not begin. The same header goes on from one sidecar and ends at
#   the next; a test with flags 00 and 01 shows none of it.
#
# Needs: bash, Go, Python 3 with venv, Node.js with npm.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/go" "$dir/js"
trace=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331

cd "$dir/go"
export GOTOOLCHAIN=go1.27.4 GOFLAGS=-mod=mod
cat > go.mod <<'E'
module finding

go 1.26.0

require go.opentelemetry.io/otel v1.47.0
E
cat > main.go <<'E'
package main

import (
	"context"
	"fmt"
	"os"

	"go.opentelemetry.io/otel/propagation"
)

func main() {
	pass := func(name, parent, state string) {
		in, out := propagation.MapCarrier{"traceparent": parent, "tracestate": state}, propagation.MapCarrier{}
		var p propagation.TraceContext
		p.Inject(p.Extract(context.Background(), in), out)
		fmt.Printf("go, %s: flags %q, state %q\n", name, tail(out["traceparent"]), out["tracestate"])
	}
	for _, flags := range []string{"01", "03", "05", "09"} {
		pass(flags, os.Args[1]+"-"+flags, "")
	}
	pass("digit", os.Args[1]+"-01", "vendor=1,1a=2")
}

func tail(s string) string { return s[max(0, len(s)-2):] }
E
go run . $trace > "$dir/out"

cd "$dir/js"
npm install --silent --no-audit --no-fund --ignore-scripts @opentelemetry/core@2.12.1 @opentelemetry/api@1.9.1
cat > main.cjs <<'E'
const { W3CTraceContextPropagator } = require('@opentelemetry/core');
const api = require('@opentelemetry/api');
const p = new W3CTraceContextPropagator();
function pass(name, traceparent, tracestate) {
  const out = {};
  p.inject(p.extract(api.ROOT_CONTEXT, { traceparent, tracestate }, api.defaultTextMapGetter), out, api.defaultTextMapSetter);
  console.log(`js, ${name}: flags "${(out.traceparent || '').slice(-2)}", state "${out.tracestate || ''}"`);
}
for (const flags of ['01', '03', '05', '09']) pass(flags, process.argv[2] + '-' + flags, '');
pass('digit', process.argv[2] + '-01', 'vendor=1,1a=2');
E
node main.cjs $trace >> "$dir/out"

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check opentelemetry-api==1.45.2
"$dir/py/bin/python" - $trace >> "$dir/out" 2> "$dir/log" <<'E'
import sys
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

p = TraceContextTextMapPropagator()


def go(name, parent, state):
    out = {}
    p.inject(out, p.extract({"traceparent": [parent], "tracestate": [state]}))
    print(f'python, {name}: flags "{out.get("traceparent", "")[-2:]}", state "{out.get("tracestate", "")}"')


for flags in ["01", "03", "05", "09"]:
    go(flags, sys.argv[1] + "-" + flags, "")
go("digit", sys.argv[1] + "-01", "vendor=1,1a=2")
E

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
go, 01: flags "01", state ""
go, 03: flags "03", state ""
go, 05: flags "", state ""
go, 09: flags "", state ""
go, digit: flags "01", state ""
js, 01: flags "01", state ""
js, 03: flags "03", state ""
js, 05: flags "05", state ""
js, 09: flags "09", state ""
js, digit: flags "01", state "vendor=1"
python, 01: flags "01", state ""
python, 03: flags "03", state ""
python, 05: flags "05", state ""
python, 09: flags "09", state ""
python, digit: flags "01", state ""
E
