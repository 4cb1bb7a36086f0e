#!/usr/bin/env bash
#
# A protobuf library's own JSON reads the ids of OTLP/JSON without an error, and wrongly.
#
# Versions: Go modules go.opentelemetry.io/proto/otlp v1.11.1 and
#   google.golang.org/protobuf v1.36.11; PyPI opentelemetry-proto 1.45.2 and
#   protobuf 7.36.2.
#
# Expected: OTLP over HTTP may be JSON, which is protobuf's JSON but that traceId and
#   spanId are hexadecimal (OTLP specification, "JSON Protobuf Encoding"); protobuf's
#   own JSON has bytes in base64. Reading the one as the other should fail, or be
#   noticed.
#
# Seen: each hexadecimal digit is a digit of base64 too, and 32 and 16 of them are
#   whole groups of four. So protojson in Go and json_format in Python take the
#   specification's own example, and make a trace id of 24 bytes, and a span id of 12.
#   Written as JSON again the text is the one that came in, so a test that goes there
#   and back holds. Nothing but the length of the bytes shows it.
#
# Why it matters here: whoever receives telemetry of programs that speak OTLP/JSON
#   (browsers, functions) with the generated types has spans that no other span is the
#   parent of. The length must be checked, or the ids rewritten before the message is read.
#
# Needs: bash, Go, Python 3 with venv.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/go"
span='{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}'

cd "$dir/go"
export GOTOOLCHAIN=go1.27.4 GOFLAGS=-mod=mod
cat > go.mod <<'E'
module finding

go 1.26.0

require (
	go.opentelemetry.io/proto/otlp v1.11.1
	google.golang.org/protobuf v1.36.11
)
E
cat > main.go <<'E'
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

func main() {
	var span trace.Span
	err := protojson.Unmarshal([]byte(os.Args[1]), &span)
	fmt.Printf("protojson: %v, trace id %x (%d bytes), span id %x (%d bytes)\n", err, span.TraceId, len(span.TraceId), span.SpanId, len(span.SpanId))
	again, err := protojson.Marshal(&span)
	if err != nil {
		log.Fatal(err)
	}
	var before, after map[string]string
	if err := json.Unmarshal([]byte(os.Args[1]), &before); err != nil {
		log.Fatal(err)
	}
	if err := json.Unmarshal(again, &after); err != nil {
		log.Fatal(err)
	}
	fmt.Println("protojson, there and back, is the same:", before["traceId"] == after["traceId"] && before["spanId"] == after["spanId"])
}
E
go run . "$span" > "$dir/out"

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check opentelemetry-proto==1.45.2 protobuf==7.36.2
"$dir/py/bin/python" - "$span" >> "$dir/out" <<'E'
import json
import sys
from google.protobuf import json_format
from opentelemetry.proto.trace.v1 import trace_pb2

span = json_format.Parse(sys.argv[1], trace_pb2.Span())
print(f"json_format: trace id {span.trace_id.hex()} ({len(span.trace_id)} bytes), span id {span.span_id.hex()} ({len(span.span_id)} bytes)")
print("json_format, there and back, is the same:", json.loads(json_format.MessageToJson(span)) == json.loads(sys.argv[1]))
E

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
protojson: <nil>, trace id e5bf1e7df7fbf7cd37f35d37776ebd6fadf7f35ddf73ad1c (24 bytes), span id 79e7b5f5bede7377356f5ef8 (12 bytes)
protojson, there and back, is the same: true
json_format: trace id e5bf1e7df7fbf7cd37f35d37776ebd6fadf7f35ddf73ad1c (24 bytes), span id 79e7b5f5bede7377356f5ef8 (12 bytes)
json_format, there and back, is the same: True
E
