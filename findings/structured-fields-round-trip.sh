#!/usr/bin/env bash
#
# A structured field does not survive a hop in JavaScript: the decimal 1.0 becomes the integer 1.
#
# Versions: Go github.com/dunglas/httpsfv v1.1.2; PyPI http-sf 1.5.0 and http_sfv 0.9.9;
#   npm structured-headers 2.1.0 and structured-field-values 2.0.4.
#
# Expected (RFC 9651): Integer and Decimal are two types; a Decimal is written with a dot and
#   at least one digit behind it, 1.0 too (§4.1.5). An empty value is a List and a Dictionary
#   without members (§4.2). Bytes without the padding of base64 are read, where the library
#   allows to (§4.2.7). A Display String is a type (§3.3.8).
#
# Seen, when each library reads a value and writes what it read:
#   - Both npm packages hold a number in one type and write `;q=1` for `;q=1.0`. The reader
#     behind them gets an Integer, which a strict one may refuse, and whoever signed the
#     field in its canonical form (RFC 9421 §2.1.1) finds the signature broken.
#   - http_sfv throws at an empty List and an empty Dictionary; the other four take them.
#     http-sf reads them and throws where they are written, as §4.1 wants it: no field at all.
#   - Bytes without padding are read by http-sf and both npm packages, and an error in Go and
#     for http_sfv.
#   - structured-field-values reads no Display String, though it reads Dates, which came with
#     the same RFC.
#
# Why it matters here: Priority, Cache-Status, RateLimit and signatures of messages are such
#   fields. A proxy must hand on their bytes, and never what a library made of them.
#
# Needs: bash, Go, Python 3 with venv, Node.js with npm.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/go" "$dir/js"

cat > "$dir/cases.json" <<'E'
[["list", "a;q=1.0, b;q=0.50"], ["list", ""], ["dictionary", ""], ["item", ":aGVsbG8:"],
 ["item", "@1659578233"], ["item", "%\"caf%c3%a9\""]]
E

cd "$dir/go"
export GOTOOLCHAIN=go1.27.4
cat > go.mod <<'E'
module finding

go 1.26.0
E
go get github.com/dunglas/httpsfv@v1.1.2 2> /dev/null
cat > main.go <<'E'
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/dunglas/httpsfv"
)

func main() {
	var cases [][2]string
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		log.Fatal(err)
	}
	for _, c := range cases {
		var value httpsfv.StructuredFieldValue
		var err error
		switch c[0] {
		case "item":
			value, err = httpsfv.UnmarshalItem([]string{c[1]})
		case "list":
			value, err = httpsfv.UnmarshalList([]string{c[1]})
		case "dictionary":
			value, err = httpsfv.UnmarshalDictionary([]string{c[1]})
		}
		written := "error"
		if err == nil {
			if written, err = httpsfv.Marshal(value); err != nil {
				written = "read, not written"
			}
		}
		fmt.Printf("httpsfv, %s <%s>: <%s>\n", c[0], c[1], written)
	}
}
E
go run . < "$dir/cases.json" > "$dir/out"

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check http-sf==1.5.0 http_sfv==0.9.9
"$dir/py/bin/python" - "$dir/cases.json" >> "$dir/out" <<'E'
import json
import sys
import http_sf
import http_sfv


def by_http_sf(kind, text):
    value = http_sf.parse(text.encode(), tltype=kind)
    try:
        return http_sf.ser(value)
    except ValueError:
        return "read, not written"


def by_http_sfv(kind, text):
    value = {"item": http_sfv.Item, "list": http_sfv.List, "dictionary": http_sfv.Dictionary}[kind]()
    value.parse(text.encode())
    return str(value)


for name, library in [("http-sf", by_http_sf), ("http_sfv", by_http_sfv)]:
    for kind, text in json.load(open(sys.argv[1])):
        try:
            written = library(kind, text)
        except ValueError:
            written = "error"
        print(f"{name}, {kind} <{text}>: <{written}>")
E

cd "$dir/js"
npm init -y > /dev/null
npm install --silent structured-headers@2.1.0 structured-field-values@2.0.4
cat > main.mjs <<'E'
import { readFileSync } from "node:fs";
import * as h from "structured-headers";
import * as f from "structured-field-values";

const libraries = {
  "structured-headers": { item: [h.parseItem, h.serializeItem], list: [h.parseList, h.serializeList], dictionary: [h.parseDictionary, h.serializeDictionary] },
  "structured-field-values": { item: [f.decodeItem, f.encodeItem], list: [f.decodeList, f.encodeList], dictionary: [f.decodeDict, f.encodeDict] },
};
for (const [name, library] of Object.entries(libraries)) {
  for (const [kind, text] of JSON.parse(readFileSync(process.argv[2]))) {
    const [read, write] = library[kind];
    let written = "error";
    try { written = write(read(text)); } catch {}
    console.log(`${name}, ${kind} <${text}>: <${written}>`);
  }
}
E
node main.mjs "$dir/cases.json" >> "$dir/out"

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
httpsfv, list <a;q=1.0, b;q=0.50>: <a;q=1.0, b;q=0.5>
httpsfv, list <>: <>
httpsfv, dictionary <>: <>
httpsfv, item <:aGVsbG8:>: <error>
httpsfv, item <@1659578233>: <@1659578233>
httpsfv, item <%"caf%c3%a9">: <%"caf%c3%a9">
http-sf, list <a;q=1.0, b;q=0.50>: <a;q=1.0, b;q=0.5>
http-sf, list <>: <read, not written>
http-sf, dictionary <>: <read, not written>
http-sf, item <:aGVsbG8:>: <:aGVsbG8=:>
http-sf, item <@1659578233>: <@1659578233>
http-sf, item <%"caf%c3%a9">: <%"caf%c3%a9">
http_sfv, list <a;q=1.0, b;q=0.50>: <a;q=1.0, b;q=0.5>
http_sfv, list <>: <error>
http_sfv, dictionary <>: <error>
http_sfv, item <:aGVsbG8:>: <error>
http_sfv, item <@1659578233>: <@1659578233>
http_sfv, item <%"caf%c3%a9">: <%"caf%c3%a9">
structured-headers, list <a;q=1.0, b;q=0.50>: <a;q=1, b;q=0.5>
structured-headers, list <>: <>
structured-headers, dictionary <>: <>
structured-headers, item <:aGVsbG8:>: <:aGVsbG8=:>
structured-headers, item <@1659578233>: <@1659578233>
structured-headers, item <%"caf%c3%a9">: <%"caf%c3%a9">
structured-field-values, list <a;q=1.0, b;q=0.50>: <a;q=1, b;q=0.5>
structured-field-values, list <>: <>
structured-field-values, dictionary <>: <>
structured-field-values, item <:aGVsbG8:>: <:aGVsbG8=:>
structured-field-values, item <@1659578233>: <@1659578233>
structured-field-values, item <%"caf%c3%a9">: <error>
E
