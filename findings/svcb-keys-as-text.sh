#!/usr/bin/env bash
#
# SVCB as BIND writes it is an error to miekg/dns, and other bytes to dnsjava.
#
# Versions: Debian's bind9-utils 1:9.18.49-1~deb12u3 (bookworm, amd64); Go module
#   github.com/miekg/dns v1.1.73; PyPI dnspython 2.9.2; Maven dnsjava:dnsjava 3.6.3.
#
# Expected: RFC 9460 §2.1 lets a zone file write any parameter as keyNNNNN with the value
#   as it is on the wire, known keys too: key7 is dohpath (RFC 9461), key1 is alpn. §7.1.1
#   and appendix A.1 escape a comma within an ALPN id twice; appendix D.2 has the test
#   vector alpn="f\\\\oo\\,bar,h2", whose first id is the eight bytes f\oo,bar.
#
# Seen:
#   - named-compilezone, which knows neither, prints dohpath as key7 and ohttp as key8.
#   - miekg/dns refuses keyNNNNN for every key that it knows by a name: "bad SVCB key". A
#     zone that BIND 9.18 wrote is lost to it as a whole, and one that names a key in this
#     way stops being read as soon as the library learns the key's name.
#   - dnspython reads all of them, and the same bytes as BIND.
#   - dnsjava reads key7 and key8, which it has no names for, but takes the value of key1
#     for the text of alpn: the id gets a length of its own in front, \002h2 becomes an id
#     of three bytes, without an error. key4 with four bytes is an error. Of the test
#     vector it takes one level of escapes off and not the other: the first id has ten
#     bytes, f\\oo\,bar.
#
# Why it matters here: which resolver, ALPN and addresses a name offers is asked by one
#   program, kept as text by a second and served by a third. What a proxy reads of a
#   stranger's HTTPS record it should take from the wire, and never by way of text.
#
# Needs: bash, Debian's bookworm as a source of apt, dpkg-deb, Go, Python 3 with venv, a JDK
#   of 17 or later with Maven.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/deb" "$dir/go" "$dir/java"

cat > "$dir/rdata" <<'E'
1 foo. key7="/x{?dns}"
2 foo. key1="\002h2"
3 foo. key8
4 foo. key4="\192\000\002\001"
5 foo. alpn="f\\\\oo\\,bar,h2"
E

cd "$dir/deb"
apt-get download -qq bind9-utils=1:9.18.49-1~deb12u3 bind9-libs=1:9.18.49-1~deb12u3 libuv1 \
	libxml2 libjson-c5 libmaxminddb0 libfstrm0 libprotobuf-c1 liblmdb0 libicu72 libnghttp2-14 libjemalloc2 2> /dev/null
for package in *.deb; do
	dpkg-deb -x "$package" .
done
{
	echo 'example. 60 SOA ns.example. hostmaster.example. 1 2 3 4 60'
	echo 'example. 60 NS ns.example.'
	echo 'ns.example. 60 A 192.0.2.1'
	sed 's/^/a.example. 60 SVCB /' "$dir/rdata"
} > zone
LD_LIBRARY_PATH=usr/lib/x86_64-linux-gnu usr/bin/named-compilezone -q -o printed example zone
sed -n 's/.*SVCB[[:space:]]*/BIND: /p' printed > "$dir/out"

cd "$dir/go"
export GOTOOLCHAIN=go1.27.4 GOFLAGS=-mod=mod
cat > go.mod <<'E'
module finding

go 1.26.0

require github.com/miekg/dns v1.1.73
E
cat > main.go <<'E'
package main

import (
	"bufio"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/miekg/dns"
)

func main() {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		rr, err := dns.NewRR("a. 60 SVCB " + in.Text())
		if err != nil {
			var refused *dns.ParseError
			if !errors.As(err, &refused) {
				log.Fatal(err)
			}
			fmt.Printf("miekg/dns, %s: %v\n", in.Text(), err)
			continue
		}
		b := make([]byte, 512)
		n, err := dns.PackRR(rr, b, 0, nil, false)
		if err != nil {
			log.Fatal(err)
		}
		const fixed = 3 + 2 + 2 + 4 + 2 // of the record, before its data
		fmt.Printf("miekg/dns, %s: %x\n", in.Text(), b[fixed:n])
	}
}
E
go run . < "$dir/rdata" >> "$dir/out"

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check dnspython==2.9.2
"$dir/py/bin/python" - "$dir/rdata" >> "$dir/out" <<'E'
import sys
import dns.rdata

for line in open(sys.argv[1]):
    print(f"dnspython, {line.strip()}: {dns.rdata.from_text('IN', 'SVCB', line).to_wire().hex()}")
E

cd "$dir/java"
cat > pom.xml <<'E'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>finding</groupId>
  <artifactId>finding</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>dnsjava</groupId>
      <artifactId>dnsjava</artifactId>
      <version>3.6.3</version>
    </dependency>
  </dependencies>
</project>
E
mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$dir/java/lib" > "$dir/mvn" 2>&1 || { cat "$dir/mvn" >&2; exit 1; }
cat > Main.java <<'E'
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import org.xbill.DNS.DClass;
import org.xbill.DNS.Name;
import org.xbill.DNS.TextParseException;
import org.xbill.DNS.Type;

public class Main {
    public static void main(String[] args) throws Exception {
        for (String line : Files.readAllLines(Path.of(args[0]))) {
            String read;
            try {
                read = HexFormat.of().formatHex(org.xbill.DNS.Record.fromString(
                    new Name("a."), Type.SVCB, DClass.IN, 60, line, Name.root).rdataToWireCanonical());
            } catch (TextParseException e) {
                read = e.getMessage();
            }
            System.out.println("dnsjava, " + line + ": " + read);
        }
    }
}
E
java -cp "$dir/java/lib/*" Main.java "$dir/rdata" 2> /dev/null >> "$dir/out"

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
BIND: 1 foo. key7="/x{?dns}"
BIND: 2 foo. alpn="h2"
BIND: 3 foo. key8
BIND: 4 foo. ipv4hint=192.0.2.1
BIND: 5 foo. alpn="f\\\\oo\\,bar,h2"
miekg/dns, 1 foo. key7="/x{?dns}": dns: bad SVCB key: "\"" at line: 1:33
miekg/dns, 2 foo. key1="\002h2": dns: bad SVCB key: "\"" at line: 1:31
miekg/dns, 3 foo. key8: dns: bad SVCB key: "key8" at line: 1:22
miekg/dns, 4 foo. key4="\192\000\002\001": dns: bad SVCB key: "\"" at line: 1:41
miekg/dns, 5 foo. alpn="f\\\\oo\\,bar,h2": 000503666f6f000001000c08665c6f6f2c626172026832
dnspython, 1 foo. key7="/x{?dns}": 000103666f6f00000700082f787b3f646e737d
dnspython, 2 foo. key1="\002h2": 000203666f6f0000010003026832
dnspython, 3 foo. key8: 000303666f6f0000080000
dnspython, 4 foo. key4="\192\000\002\001": 000403666f6f0000040004c0000201
dnspython, 5 foo. alpn="f\\\\oo\\,bar,h2": 000503666f6f000001000c08665c6f6f2c626172026832
dnsjava, 1 foo. key7="/x{?dns}": 000103666f6f00000700082f787b3f646e737d
dnsjava, 2 foo. key1="\002h2": 000203666f6f000001000403026832
dnsjava, 3 foo. key8: 000303666f6f0000080000
dnsjava, 4 foo. key4="\192\000\002\001": Invalid ipv4hint value '\192\000\002\001'
dnsjava, 5 foo. alpn="f\\\\oo\\,bar,h2": 000503666f6f000001000e0a665c5c6f6f5c2c626172026832
E
