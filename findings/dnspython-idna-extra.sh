#!/usr/bin/env bash
#
# dnspython asks for another name as soon as the package idna is installed.
#
# Versions: PyPI dnspython 2.9.2, without and with idna 3.20.
#
# Expected: which name a program asks DNS for depends on what it wrote, and on the
#   library that it chose.
#
# Seen: dns.name.from_text takes IDNA 2003 where the package idna cannot be imported, and
#   IDNA 2008 where it can. So faß.de is fass.de in one environment and xn--fa-hia.de in the
#   other, which are two domains of two owners, and so is each Greek name that ends in a
#   sigma. A name with an emoji is asked for in the one and an exception in the other.
#   There is no warning, and idna comes with many environments, as a dependency of requests
#   and of httpx.
#
# Why it matters here: a rule names a host in one form. Whether a workload reaches it
#   depends on a package that it does not use itself, and comes with another.
#
# Needs: bash, Python 3 with venv.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat > "$dir/main.py" <<'E'
import sys
import dns.name

for text in ["bücher.example", "faß.de", "βόλος.gr", "☕.example"]:
    try:
        name = dns.name.from_text(text).to_text()
    except Exception as e:
        name = type(e).__name__
    print(f"{sys.argv[1]}: {ascii(text)}: {name}")
E
python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check dnspython==2.9.2
"$dir/py/bin/python" "$dir/main.py" "without idna" > "$dir/out"
"$dir/py/bin/pip" install -q --disable-pip-version-check idna==3.20
"$dir/py/bin/python" "$dir/main.py" "with idna" >> "$dir/out"

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
without idna: 'b\xfccher.example': xn--bcher-kva.example.
without idna: 'fa\xdf.de': fass.de.
without idna: '\u03b2\u03cc\u03bb\u03bf\u03c2.gr': xn--nxasmq6b.gr.
without idna: '\u2615.example': xn--53h.example.
with idna: 'b\xfccher.example': xn--bcher-kva.example.
with idna: 'fa\xdf.de': xn--fa-hia.de.
with idna: '\u03b2\u03cc\u03bb\u03bf\u03c2.gr': xn--nxasmm1c.gr.
with idna: '\u2615.example': IDNAException
E
