#!/usr/bin/env bash
#
# One CEL expression has other values in other languages.
#
# Versions: Go module cel.dev/cel-go v0.33.2; PyPI cel-python 0.5.0; npm cel-js 0.8.2
#   and @marcbachmann/cel-js 8.0.0.
#
# Expected, from the language definition (cel-spec): integers have 64 bits and divide
#   towards zero; size of a string counts code points, of bytes the bytes; string(true)
#   is "true"; int() of a string reads decimal digits; NaN is not equal to itself; "||"
#   and "&&" are commutative, so that an error on the one side does not count where the
#   other decides; and int of a timestamp is its seconds.
#
# Seen: cel-go is right on all. cel-python writes "True", reads hexadecimal, and says that
#   NaN equals NaN. cel-js divides integers into fractions, counts the two halves of an
#   emoji, loses the last bit of a large integer, evaluates "||" from left to right, and has
#   no bytes and no conversions. The other JavaScript library is right on these, counts the
#   code points of bytes, and has no int() of a timestamp.
#
# Why it matters here: rules and validations of Kubernetes and of a mesh are CEL, and
#   people try them in a playground or check them in a pipeline of another language. An
#   expression that was tested there may decide otherwise in the API server, without an
#   error.
#
# Needs: bash, Go, Python 3 with venv, Node.js with npm.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/go" "$dir/js"
cat > "$dir/list" <<'E'
-7 / 2 == -3
size('👍') == 1
size(b'é') == 2
9007199254740993 - 9007199254740992 == 1
(1 / 0 == 1) || true
string(true) == 'true'
int('0x10') == 16
0.0 / 0.0 == 0.0 / 0.0
int(timestamp('1970-01-01T00:00:01Z')) == 1
E

cd "$dir/go"
export GOTOOLCHAIN=go1.27.4 GOFLAGS=-mod=mod
cat > go.mod <<'E'
module finding

go 1.26.0

require cel.dev/cel-go v0.33.2
E
cat > main.go <<'E'
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"

	"cel.dev/cel-go/cel"
)

func main() {
	env, err := cel.NewEnv()
	if err != nil {
		log.Fatal(err)
	}
	list := bufio.NewScanner(os.Stdin)
	for list.Scan() {
		said := "error"
		if ast, issues := env.Compile(list.Text()); issues.Err() == nil {
			program, err := env.Program(ast)
			if err != nil {
				log.Fatal(err)
			}
			if value, _, err := program.Eval(map[string]any{}); err == nil {
				said = fmt.Sprint(value.Value())
			}
		}
		fmt.Printf("cel-go: %s: %s\n", list.Text(), said)
	}
}
E
go run . < "$dir/list" > "$dir/out"

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check cel-python==0.5.0
cat > "$dir/main.py" <<'E'
import sys
import celpy

for line in sys.stdin:
    text = line.rstrip("\n")
    try:
        env = celpy.Environment()
        said = str(bool(env.program(env.compile(text)).evaluate({}))).lower()
    except Exception:
        said = "error"
    print(f"cel-python: {text}: {said}")
E
"$dir/py/bin/python" "$dir/main.py" < "$dir/list" >> "$dir/out"

cd "$dir/js"
npm install --silent --no-audit --no-fund --ignore-scripts cel-js@0.8.2 @marcbachmann/cel-js@8.0.0
cat > main.mjs <<'E'
import fs from 'node:fs';
import { evaluate as one } from 'cel-js';
import { evaluate as other } from '@marcbachmann/cel-js';
const list = fs.readFileSync(process.argv[2], 'utf8').trim().split('\n');
for (const [name, evaluate] of [['cel-js', one], ['@marcbachmann/cel-js', other]]) {
  for (const text of list) {
    let said = 'error';
    try { said = String(evaluate(text, {})); } catch {}
    console.log(`${name}: ${text}: ${said}`);
  }
}
E
node main.mjs "$dir/list" >> "$dir/out" 2> "$dir/log"

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
cel-go: -7 / 2 == -3: true
cel-go: size('👍') == 1: true
cel-go: size(b'é') == 2: true
cel-go: 9007199254740993 - 9007199254740992 == 1: true
cel-go: (1 / 0 == 1) || true: true
cel-go: string(true) == 'true': true
cel-go: int('0x10') == 16: error
cel-go: 0.0 / 0.0 == 0.0 / 0.0: false
cel-go: int(timestamp('1970-01-01T00:00:01Z')) == 1: true
cel-python: -7 / 2 == -3: true
cel-python: size('👍') == 1: true
cel-python: size(b'é') == 2: true
cel-python: 9007199254740993 - 9007199254740992 == 1: true
cel-python: (1 / 0 == 1) || true: true
cel-python: string(true) == 'true': false
cel-python: int('0x10') == 16: true
cel-python: 0.0 / 0.0 == 0.0 / 0.0: true
cel-python: int(timestamp('1970-01-01T00:00:01Z')) == 1: true
cel-js: -7 / 2 == -3: false
cel-js: size('👍') == 1: false
cel-js: size(b'é') == 2: error
cel-js: 9007199254740993 - 9007199254740992 == 1: false
cel-js: (1 / 0 == 1) || true: error
cel-js: string(true) == 'true': error
cel-js: int('0x10') == 16: error
cel-js: 0.0 / 0.0 == 0.0 / 0.0: error
cel-js: int(timestamp('1970-01-01T00:00:01Z')) == 1: error
@marcbachmann/cel-js: -7 / 2 == -3: true
@marcbachmann/cel-js: size('👍') == 1: true
@marcbachmann/cel-js: size(b'é') == 2: false
@marcbachmann/cel-js: 9007199254740993 - 9007199254740992 == 1: true
@marcbachmann/cel-js: (1 / 0 == 1) || true: true
@marcbachmann/cel-js: string(true) == 'true': true
@marcbachmann/cel-js: int('0x10') == 16: error
@marcbachmann/cel-js: 0.0 / 0.0 == 0.0 / 0.0: false
@marcbachmann/cel-js: int(timestamp('1970-01-01T00:00:01Z')) == 1: error
E
