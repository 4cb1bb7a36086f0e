#!/usr/bin/env bash
#
# One baggage entry, passed on by three services, arrives with another value.
#
# Versions: Go module go.opentelemetry.io/otel v1.47.0; npm @opentelemetry/core
#   2.12.1 with @opentelemetry/api 1.9.1; PyPI opentelemetry-api 1.45.2.
#
# Expected: by W3C Baggage a member is key=value, then properties behind
#   semicolons that belong to the member and not to its value. "+" is an octet
#   that stands for itself; what is outside the allowed octets is percent-encoded,
#   a space as %20. An empty value is a value. A propagator that only passes
#   baggage on gives the next service what it was given.
#
# Seen: Go and JavaScript keep "+" and properties. Python encodes and decodes as
#   HTML forms do: what Go sends as "a+b" is "a b" to Python, and its own space
#   leaves as "+", which Go and JavaScript then read as a plus. It knows no
#   properties: ";ttl=60" becomes part of the value and leaves as
#   "%3Bttl%3D60", so that services behind it see a longer value and no
#   property. An escape in a key is decoded by Python and JavaScript, kept as
#   it is by Go. A member with an empty value vanishes at JavaScript; the other
#   two keep it. No side raises an error. The plus alone is known to
#   opentelemetry-python as issue 5566, open at this version.
#
# Why it matters here: baggage is what routing rules and samplers of a mesh look
#   at, and its hops are written in different languages. A value in base64, or a
#   time with its offset, is another one to the hop in Python; one with a space
#   or a property matches a rule before that hop and not behind it.
#
# Needs: bash, Go, Python 3 with venv, Node.js with npm.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/go" "$dir/js"

cat > "$dir/headers" <<'E'
tag=a+b
tag=a%20b
tag=MDo+Pz8/
at=2026-11-28T10:00:00+01:00
tag=a;ttl=60
tag=,other=1
t%61g=a
E

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
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		ctx := propagation.Baggage{}.Extract(context.Background(), propagation.MapCarrier{"baggage": lines.Text()})
		var read []string
		for _, m := range baggage.FromContext(ctx).Members() {
			read = append(read, fmt.Sprintf("[%s] is [%s]", m.Key(), m.Value()))
		}
		slices.Sort(read)
		next := propagation.MapCarrier{}
		propagation.Baggage{}.Inject(ctx, next)
		sent := strings.Split(next["baggage"], ",")
		slices.Sort(sent)
		fmt.Printf("%s: %s; sends %s\n", lines.Text(), strings.Join(read, " "), strings.Join(sent, ","))
	}
}
E
go build -o "$dir/in-go" .

cd "$dir/js"
npm init -y > init.log
npm install --silent --no-audit --no-fund @opentelemetry/core@2.12.1 @opentelemetry/api@1.9.1
cat > main.js <<'E'
const { W3CBaggagePropagator } = require('@opentelemetry/core');
const { ROOT_CONTEXT, propagation, defaultTextMapGetter, defaultTextMapSetter } = require('@opentelemetry/api');
const propagator = new W3CBaggagePropagator();
for (const line of require('fs').readFileSync(0, 'utf8').trim().split('\n')) {
  const context = propagator.extract(ROOT_CONTEXT, { baggage: line }, defaultTextMapGetter);
  const read = (propagation.getBaggage(context)?.getAllEntries() ?? []).map(([k, e]) => `[${k}] is [${e.value}]`).sort();
  const next = {};
  propagator.inject(context, next, defaultTextMapSetter);
  console.log(`${line}: ${read.join(' ')}; sends ${next.baggage.split(',').sort().join(',')}`);
}
E

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check opentelemetry-api==1.45.2
cat > "$dir/main.py" <<'E'
import sys
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator

propagator = W3CBaggagePropagator()
for line in sys.stdin.read().splitlines():
    context = propagator.extract({"baggage": line})
    read = sorted(f"[{k}] is [{v}]" for k, v in baggage.get_all(context).items())
    following = {}
    propagator.inject(following, context=context)
    print(f"{line}: {' '.join(read)}; sends {','.join(sorted(following['baggage'].split(',')))}")
E

{
	echo "Go"
	"$dir/in-go" < "$dir/headers"
	echo "JavaScript"
	node main.js < "$dir/headers"
	echo "Python"
	"$dir/py/bin/python" "$dir/main.py" < "$dir/headers"
	echo "Go behind Python"
	"$dir/py/bin/python" "$dir/main.py" < "$dir/headers" | sed 's/.*; sends //' | "$dir/in-go"
} > "$dir/out"

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
Go
tag=a+b: [tag] is [a+b]; sends tag=a+b
tag=a%20b: [tag] is [a b]; sends tag=a%20b
tag=MDo+Pz8/: [tag] is [MDo+Pz8/]; sends tag=MDo+Pz8/
at=2026-11-28T10:00:00+01:00: [at] is [2026-11-28T10:00:00+01:00]; sends at=2026-11-28T10:00:00+01:00
tag=a;ttl=60: [tag] is [a]; sends tag=a;ttl=60
tag=,other=1: [other] is [1] [tag] is []; sends other=1,tag=
t%61g=a: [t%61g] is [a]; sends t%61g=a
JavaScript
tag=a+b: [tag] is [a+b]; sends tag=a%2Bb
tag=a%20b: [tag] is [a b]; sends tag=a%20b
tag=MDo+Pz8/: [tag] is [MDo+Pz8/]; sends tag=MDo%2BPz8%2F
at=2026-11-28T10:00:00+01:00: [at] is [2026-11-28T10:00:00+01:00]; sends at=2026-11-28T10%3A00%3A00%2B01%3A00
tag=a;ttl=60: [tag] is [a]; sends tag=a;ttl=60
tag=,other=1: [other] is [1]; sends other=1
t%61g=a: [tag] is [a]; sends tag=a
Python
tag=a+b: [tag] is [a b]; sends tag=a+b
tag=a%20b: [tag] is [a b]; sends tag=a+b
tag=MDo+Pz8/: [tag] is [MDo Pz8/]; sends tag=MDo+Pz8%2F
at=2026-11-28T10:00:00+01:00: [at] is [2026-11-28T10:00:00 01:00]; sends at=2026-11-28T10%3A00%3A00+01%3A00
tag=a;ttl=60: [tag] is [a;ttl=60]; sends tag=a%3Bttl%3D60
tag=,other=1: [other] is [1] [tag] is []; sends other=1,tag=
t%61g=a: [tag] is [a]; sends tag=a
Go behind Python
tag=a+b: [tag] is [a+b]; sends tag=a+b
tag=a+b: [tag] is [a+b]; sends tag=a+b
tag=MDo+Pz8%2F: [tag] is [MDo+Pz8/]; sends tag=MDo+Pz8/
at=2026-11-28T10%3A00%3A00+01%3A00: [at] is [2026-11-28T10:00:00+01:00]; sends at=2026-11-28T10:00:00+01:00
tag=a%3Bttl%3D60: [tag] is [a;ttl=60]; sends tag=a%3Bttl=60
other=1,tag=: [other] is [1] [tag] is []; sends other=1,tag=
tag=a: [tag] is [a]; sends tag=a
E
