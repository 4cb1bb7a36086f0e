#!/usr/bin/env bash
#
# A TXT record has four readings: joined, in pieces, in quotation marks, in Latin-1.
#
# Versions: the standard libraries of Go 1.27.4, Node.js 20 (c-ares) and Java 17 (JNDI);
#   PyPI dnspython 2.9.2 and pycares 5.2.1.
#
# Expected: a TXT record is one or more strings of bytes (RFC 1035 §3.3.14). Those who use
#   them join the strings without anything in between (RFC 7208 §3.3), and take UTF-8.
#
# Seen, for "a b" "c" and for the bytes of "café" in UTF-8:
#   - Go joins the strings, and has the bytes as they are.
#   - Node.js gives the strings apart, and each byte as the character of Latin-1: "cafÃ©".
#   - Java gives one text in which a string that holds a blank stands in quotation marks,
#     and one that holds none does not, with a blank in between: "a b" c. Whoever drops
#     the marks still has that blank. The bytes are characters of Latin-1 too.
#   - dnspython has the bytes of each string; as a text it escapes them.
#   - pycares, on the same c-ares as Node.js, joins them as bytes.
#
# Why it matters here: what is found by TXT (options of mongodb+srv, keys of mail,
#   DNS-SD's attributes) is read by workloads of all languages through one proxy, which
#   must hand on the strings as they are: neither joined nor split anew.
#
# Needs: bash, Go, Python 3 with venv, Node.js, a JDK of 17 or later.
set -euo pipefail

dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$dir"' EXIT
mkdir "$dir/go"

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check dnspython==2.9.2 pycares==5.2.1
cat > "$dir/server.py" <<'E'
import os
import socket
import sys
import dns.message
import dns.rrset

texts = {"two.example.": r'"a b" "c"', "utf8.example.": r'"caf\195\169"'}
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
with open(sys.argv[1] + ".new", "w") as f:
    f.write(str(s.getsockname()[1]))
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    message, peer = s.recvfrom(4096)
    question = dns.message.from_wire(message)
    reply = dns.message.make_response(question)
    name = question.question[0].name.to_text().lower()
    if name in texts:
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", texts[name]))
    s.sendto(reply.to_wire(), peer)
E
"$dir/py/bin/python" "$dir/server.py" "$dir/port" &
server=$!
for _ in $(seq 300); do [ -e "$dir/port" ] && break; sleep 0.1; done
port=$(cat "$dir/port")

cd "$dir/go"
export GOTOOLCHAIN=go1.27.4
cat > go.mod <<'E'
module finding

go 1.26.0
E
cat > main.go <<'E'
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
)

func main() {
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", "127.0.0.1:"+os.Args[1])
	}}
	for _, name := range []string{"two.example.", "utf8.example."} {
		texts, err := r.LookupTXT(context.Background(), name)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("go, %s: %q\n", name, texts)
	}
}
E
go run . "$port" > "$dir/out"

node -e '
const r = new (require("dns").promises.Resolver)();
r.setServers(["127.0.0.1:" + process.argv[1]]);
(async () => {
  for (const name of ["two.example", "utf8.example"]) console.log(`node, ${name}: ${JSON.stringify(await r.resolveTxt(name))}`);
})();
' "$port" >> "$dir/out"

cat > "$dir/Main.java" <<'E'
import java.io.PrintStream;
import java.util.Hashtable;
import javax.naming.directory.InitialDirContext;

public class Main {
    public static void main(String[] args) throws Exception {
        Hashtable<String, String> at = new Hashtable<>();
        at.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
        at.put("java.naming.provider.url", "dns://127.0.0.1:" + args[0]);
        InitialDirContext c = new InitialDirContext(at);
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        for (String name : new String[] {"two.example", "utf8.example"}) {
            out.println("java, " + name + ": " + c.getAttributes(name, new String[] {"TXT"}).get("TXT").get());
        }
    }
}
E
java "$dir/Main.java" "$port" >> "$dir/out"

"$dir/py/bin/python" - "$port" >> "$dir/out" <<'E'
import sys
import threading
import dns.resolver
import pycares

r = dns.resolver.Resolver(configure=False)
r.nameservers, r.port = ["127.0.0.1"], int(sys.argv[1])
for name in ["two.example", "utf8.example"]:
    for record in r.resolve(name, "TXT"):
        print(f"dnspython, {name}: {record.strings} {record.to_text()}")
channel = pycares.Channel(servers=["127.0.0.1:" + sys.argv[1]])
for name in ["two.example", "utf8.example"]:
    done = threading.Event()

    def said(result, error):
        print(f"pycares, {name}: {[a.data.data for a in result.answer]}")
        done.set()

    channel.query(name, pycares.QUERY_TYPE_TXT, callback=said)
    done.wait()
E

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
go, two.example.: ["a bc"]
go, utf8.example.: ["café"]
node, two.example: [["a b","c"]]
node, utf8.example: [["cafÃ©"]]
java, two.example: "a b" c
java, utf8.example: cafÃ©
dnspython, two.example: (b'a b', b'c') "a b" "c"
dnspython, utf8.example: (b'caf\xc3\xa9',) "caf\195\169"
pycares, two.example: [b'a bc']
pycares, utf8.example: [b'caf\xc3\xa9']
E
