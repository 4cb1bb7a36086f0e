#!/usr/bin/env bash
#
# Readers of the PROXY protocol disagree about headers without a client.
#
# Versions: Go module github.com/pires/go-proxyproto v0.16.0; PyPI
#   proxy-protocol 0.11.3; npm proxy-protocol-js 4.0.6 and
#   @balena/proxy-protocol-parser 1.0.2; Maven io.netty:netty-codec-haproxy
#   4.2.18.Final.
#
# Expected, from HAProxy's proxy-protocol.txt (§2.1, §2.2):
#   unknown    "PROXY UNKNOWN\r\n" is a whole version 1 header: take the real
#              end points of the connection.
#   local      A version 2 header with the command LOCAL (a health check): take
#              the real end points too, and drop the addresses that the header
#              may hold.
#   tlv        What the length counts beyond the addresses are TLVs; the
#              connection's own bytes ("GET" here) start after that length.
#              The one sent is of a type for private use, 0xE0.
#   empty tlv  The same type as a flag: a TLV's length may be 0.
#
# Seen:
#   - go-proxyproto is right on all four, but keeps the addresses of a LOCAL
#     header in Header.SourceAddr: whoever reads the field, not
#     Conn.RemoteAddr, has to look at the command first.
#   - proxy-protocol (Python) gives no address for LOCAL, and reads the twelve
#     bytes of the IPv4 addresses as TLVs: it reports two that nobody sent.
#   - proxy-protocol-js takes a version 1 header with addresses only, and
#     refuses the short UNKNOWN. Its V2ProxyProtocol has no TLVs: they come out
#     in front of the connection's own bytes in "data".
#   - proxy-protocol-parser has no command in what it returns, so a LOCAL
#     header looks like a client's. Of the short UNKNOWN it says that it is
#     IPv6, with the line end for an address. It does not say where the
#     header ends.
#   - Netty reads all but the empty TLV, which is not in the list when it is
#     the last.
#
# Why it matters here: a mesh stands behind load balancers that send this
#   header and in front of programs that read it with such a library. None of
#   the four headers is rare: health checks send LOCAL, and some balancers put
#   TLVs of their own on each connection. A test with a plain TCP4 header
#   passes with all of these libraries and shows none of this.
#
# Needs: bash, Go, Python 3 with venv, Node.js with npm, a JDK of 17 or later
#   with Maven.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/go" "$dir/js" "$dir/java" "$dir/in"

# The four headers, each with the first bytes of the connection after it.
signature='\r\n\r\n\x00\r\nQUIT\n'
addresses='\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb' # 192.0.2.1:12345 to 198.51.100.2:443
printf 'PROXY UNKNOWN\r\nGET' > "$dir/in/unknown"
printf "$signature"'\x20\x11\x00\x0c'"$addresses"'GET' > "$dir/in/local"
printf "$signature"'\x21\x11\x00\x10'"$addresses"'\xe0\x00\x01\x01GET' > "$dir/in/tlv"
printf "$signature"'\x21\x11\x00\x0f'"$addresses"'\xe0\x00\x00GET' > "$dir/in/empty tlv"

# Each reader prints, for each header: source, TLVs as type=value, what is left.
cd "$dir/go"
export GOTOOLCHAIN=go1.27.4 GOFLAGS=-mod=mod
cat > go.mod <<'E'
module finding

go 1.26.9

require github.com/pires/go-proxyproto v0.16.0
E
cat > main.go <<'E'
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"os"

	proxyproto "github.com/pires/go-proxyproto"
)

func main() {
	for _, name := range []string{"unknown", "local", "tlv", "empty tlv"} {
		b, err := os.ReadFile(os.Args[1] + "/" + name)
		if err != nil {
			log.Fatal(err)
		}
		r := bufio.NewReader(bytes.NewReader(b))
		h, err := proxyproto.Read(r)
		if err != nil {
			fmt.Printf("go-proxyproto, %s: %v\n", name, err)
			continue
		}
		var list string
		tlvs, err := h.TLVs()
		if err != nil {
			log.Fatal(err)
		}
		for _, t := range tlvs {
			list += fmt.Sprintf(" %02x=%x", byte(t.Type), t.Value)
		}
		rest, _ := io.ReadAll(r)
		fmt.Printf("go-proxyproto, %s: local %v, source %v, TLVs%s, left %q\n",
			name, h.Command.IsLocal(), h.SourceAddr, list, rest)
	}
}
E
go run . "$dir/in" > "$dir/out"

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check proxy-protocol==0.11.3
"$dir/py/bin/python" - "$dir/in" >> "$dir/out" <<'E'
import asyncio
import sys

from proxyprotocol.detect import ProxyProtocolDetect
from proxyprotocol.reader import ProxyProtocolReader


async def main():
    for name in ["unknown", "local", "tlv", "empty tlv"]:
        stream = asyncio.StreamReader()
        stream.feed_data(open(f"{sys.argv[1]}/{name}", "rb").read())
        stream.feed_eof()
        r = await ProxyProtocolReader(ProxyProtocolDetect()).read(stream)
        tlvs = "".join(f" {t:02x}={r.tlv[t].hex()}" for t in sorted(r.tlv))
        left = (await stream.read()).decode("latin-1")
        print(f'proxy-protocol, {name}: {type(r).__name__}, source {getattr(r, "source", None)}, TLVs{tlvs}, left "{left}"')


asyncio.run(main())
E

cd "$dir/js"
npm install --silent --no-audit --no-fund --ignore-scripts \
	proxy-protocol-js@4.0.6 @balena/proxy-protocol-parser@1.0.2
cat > main.cjs <<'E'
const fs = require('fs');
const { V1ProxyProtocol, V2ProxyProtocol } = require('proxy-protocol-js');
const { decode } = require('@balena/proxy-protocol-parser');
const names = ['unknown', 'local', 'tlv', 'empty tlv'];
const read = name => fs.readFileSync(process.argv[2] + '/' + name);
for (const name of names) {
  const b = read(name);
  try {
    const h = name === 'unknown' ? V1ProxyProtocol.parse(b.toString('latin1')) : V2ProxyProtocol.parse(new Uint8Array(b));
    const left = Buffer.from(h.data).toString('latin1')
      .replace(/[^ -~]/g, c => '\\x' + c.charCodeAt(0).toString(16).padStart(2, '0'));
    console.log(`proxy-protocol-js, ${name}: command ${h.command}, left "${left}"`);
  } catch (e) {
    console.log(`proxy-protocol-js, ${name}: ${e.name}`);
  }
}
for (const name of names) {
  const h = decode(read(name).subarray(0, -3)); // the header alone
  console.log(`proxy-protocol-parser, ${name}: ${JSON.stringify(h)}`);
}
E
node main.cjs "$dir/in" >> "$dir/out"

cd "$dir/java"
cat > pom.xml <<'E'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>finding</groupId>
  <artifactId>finding</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>io.netty</groupId>
      <artifactId>netty-codec-haproxy</artifactId>
      <version>4.2.18.Final</version>
    </dependency>
  </dependencies>
</project>
E
mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$dir/java/lib" > "$dir/mvn" 2>&1 || { cat "$dir/mvn" >&2; exit 1; }
cat > Main.java <<'E'
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.Unpooled;
import io.netty.channel.embedded.EmbeddedChannel;
import io.netty.handler.codec.haproxy.HAProxyMessage;
import io.netty.handler.codec.haproxy.HAProxyMessageDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

public class Main {
    public static void main(String[] args) throws Exception {
        for (String name : new String[] {"unknown", "local", "tlv", "empty tlv"}) {
            EmbeddedChannel c = new EmbeddedChannel(new HAProxyMessageDecoder());
            c.writeInbound(Unpooled.wrappedBuffer(Files.readAllBytes(Path.of(args[0], name))));
            HAProxyMessage h = c.readInbound();
            StringBuilder tlvs = new StringBuilder();
            h.tlvs().forEach(t -> tlvs.append(String.format(" %02x=%s", t.typeByteValue(), ByteBufUtil.hexDump(t.content()))));
            ByteBuf left = c.readInbound();
            System.out.printf("netty, %s: %s, source %s, TLVs%s, left \"%s\"%n",
                name, h.command(), h.sourceAddress(), tlvs, left.toString(StandardCharsets.ISO_8859_1));
        }
        System.exit(0);
    }
}
E
java -cp "lib/*" Main.java "$dir/in" >> "$dir/out" 2> "$dir/log" || { cat "$dir/log" >&2; exit 1; }

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
go-proxyproto, unknown: local true, source <nil>, TLVs, left "GET"
go-proxyproto, local: local true, source 192.0.2.1:12345, TLVs, left "GET"
go-proxyproto, tlv: local false, source 192.0.2.1:12345, TLVs e0=01, left "GET"
go-proxyproto, empty tlv: local false, source 192.0.2.1:12345, TLVs e0=, left "GET"
proxy-protocol, unknown: ProxyResultUnknown, source None, TLVs, left "GET"
proxy-protocol, local: ProxyResultLocal, source None, TLVs 33=303901bb c0=01c6, left "GET"
proxy-protocol, tlv: ProxyResultIPv4, source (IPv4Address('192.0.2.1'), 12345), TLVs e0=01, left "GET"
proxy-protocol, empty tlv: ProxyResultIPv4, source (IPv4Address('192.0.2.1'), 12345), TLVs e0=, left "GET"
proxy-protocol-js, unknown: V1ProxyProtocolParseError
proxy-protocol-js, local: command 0, left "GET"
proxy-protocol-js, tlv: command 1, left "\xe0\x00\x01\x01GET"
proxy-protocol-js, empty tlv: command 1, left "\xe0\x00\x00GET"
proxy-protocol-parser, unknown: {"protocol":"tcp","remoteFamily":"IPv6","remoteAddress":"\r\n","localAddress":"","remotePort":null,"localPort":null}
proxy-protocol-parser, local: {"protocol":"tcp","remoteFamily":"IPv4","remoteAddress":"192.0.2.1","localAddress":"198.51.100.2","remotePort":12345,"localPort":443}
proxy-protocol-parser, tlv: {"protocol":"tcp","remoteFamily":"IPv4","remoteAddress":"192.0.2.1","localAddress":"198.51.100.2","remotePort":12345,"localPort":443}
proxy-protocol-parser, empty tlv: {"protocol":"tcp","remoteFamily":"IPv4","remoteAddress":"192.0.2.1","localAddress":"198.51.100.2","remotePort":12345,"localPort":443}
netty, unknown: PROXY, source null, TLVs, left "GET"
netty, local: LOCAL, source null, TLVs, left "GET"
netty, tlv: PROXY, source 192.0.2.1, TLVs e0=01, left "GET"
netty, empty tlv: PROXY, source 192.0.2.1, TLVs, left "GET"
E
