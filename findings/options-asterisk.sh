#!/usr/bin/env bash
#
# OPTIONS * comes out of most proxy libraries as a request for a resource.
#
# Versions: Go 1.27.4 (net/http, net/http/httputil), github.com/valyala/fasthttp
#   v1.78.0; npm http-proxy 1.18.1, http-proxy-3 1.23.3, httpxy 0.5.6,
#   http2-proxy 5.0.53.
#
# Expected: RFC 9112 §3.2.4 has the asterisk-form for a question about a server
#   as a whole ("OPTIONS * HTTP/1.1"). It is not a path. A reverse proxy whose
#   upstream has no path prefix sends on what it got: "*".
#
# Seen:
#   - A Go http.Server answers "OPTIONS *" itself, so a proxy behind it never
#     sees one (this much is documented, at DisableGeneralOptionsHandler).
#   - With that off, httputil.ReverseProxy keeps "*" only if the rewrite sets
#     nothing but scheme and host. The two ways that its documentation leads
#     with, NewSingleHostReverseProxy and ProxyRequest.SetURL, join "*" to the
#     upstream's path although that is empty, and then escape it: the upstream
#     is asked for "/%2A".
#   - fasthttp's handler sees the path "/*" while its RequestURI is "*", and
#     forwarding the request as it came asks for "/%2A". DisablePathNormalizing
#     brings "*" back.
#   - http-proxy and the two packages made from it ask for "/*" (not even the
#     same resource as "/%2A" to a server that compares bytes). http2-proxy
#     keeps "*".
#
# Why it matters here: where rules name paths, "*" and "/*" are different
#   things, and the decision, the record and what the upstream gets must be
#   about the same one. A proxy made of these parts has to carry the
#   request-target itself.
#
# Needs: bash, Go, Node.js with npm.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/go" "$dir/js"

cd "$dir/go"
export GOTOOLCHAIN=go1.27.4 GOFLAGS=-mod=mod
cat > go.mod <<'E'
module finding

go 1.27.0

require github.com/valyala/fasthttp v1.78.0
E
cat > main.go <<'E'
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"
)

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return l
}

// ask sends OPTIONS * to a proxy and waits for the head of the answer.
func ask(addr net.Addr) {
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "OPTIONS * HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
	if _, err := io.ReadAll(c); err != nil {
		log.Fatal(err)
	}
}

func main() {
	upstream := listen()
	seen := make(chan string, 1)
	go func() {
		for {
			c, err := upstream.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			seen <- strings.TrimSpace(line)
			fmt.Fprint(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			c.Close()
		}
	}()
	report := func(name string) {
		select {
		case line := <-seen:
			fmt.Printf("%-48s %s\n", name, line)
		default:
			fmt.Printf("%-48s nothing\n", name)
		}
	}

	to := &url.URL{Scheme: "http", Host: upstream.Addr().String()}
	for _, t := range []struct {
		name    string
		general bool
		proxy   *httputil.ReverseProxy
	}{
		{"httputil, server as it comes", false, httputil.NewSingleHostReverseProxy(to)},
		{"httputil, NewSingleHostReverseProxy", true, httputil.NewSingleHostReverseProxy(to)},
		{"httputil, Rewrite with SetURL", true, &httputil.ReverseProxy{
			Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) }}},
		{"httputil, Rewrite of scheme and host", true, &httputil.ReverseProxy{
			Rewrite: func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host = to.Scheme, to.Host }}},
	} {
		l := listen()
		go (&http.Server{Handler: t.proxy, DisableGeneralOptionsHandler: t.general}).Serve(l)
		ask(l.Addr())
		report(t.name)
	}
	for _, off := range []bool{false, true} {
		l := listen()
		client := &fasthttp.HostClient{Addr: to.Host, DisablePathNormalizing: off}
		go fasthttp.Serve(l, func(ctx *fasthttp.RequestCtx) {
			if !off {
				fmt.Printf("%-48s path %s, target %s\n", "fasthttp, in the handler", ctx.Path(), ctx.RequestURI())
			}
			if err := client.Do(&ctx.Request, &ctx.Response); err != nil {
				log.Fatal(err)
			}
		})
		ask(l.Addr())
		report(fmt.Sprintf("fasthttp, DisablePathNormalizing %v", off))
	}
}
E
go run . > "$dir/out"

cd "$dir/js"
npm install --silent --no-audit --no-fund --ignore-scripts \
	http-proxy@1.18.1 http-proxy-3@1.23.3 httpxy@0.5.6 http2-proxy@5.0.53
cat > main.cjs <<'E'
const net = require('net'), http = require('http');
const local = s => new Promise(done => s.listen(0, '127.0.0.1', () => done(s.address().port)));

async function main() {
  let seen = 'nothing';
  const upstream = net.createServer(c => {
    let head = '';
    c.on('error', () => {});
    c.on('data', d => {
      head += d;
      if (!head.includes('\r\n\r\n')) return;
      seen = head.split('\r\n')[0];
      c.end('HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n');
    });
  });
  const port = await local(upstream), target = 'http://127.0.0.1:' + port;
  const made = name => {
    const p = require(name).createProxyServer({ target });
    return (q, r) => p.web(q, r);
  };
  const handlers = {
    'http-proxy': made('http-proxy'),
    'http-proxy-3': made('http-proxy-3'),
    'httpxy': made('httpxy'),
    'http2-proxy': (q, r) => require('http2-proxy').web(q, r, { hostname: '127.0.0.1', port }),
  };
  for (const [name, handler] of Object.entries(handlers)) {
    seen = 'nothing';
    const proxy = await local(http.createServer(handler));
    await new Promise(done => {
      const c = net.connect(proxy, '127.0.0.1');
      c.write('OPTIONS * HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n');
      c.on('data', () => {});
      c.on('close', done);
    });
    console.log(name.padEnd(48), seen);
  }
  process.exit(0);
}
main();
E
NODE_NO_WARNINGS=1 timeout 60 node main.cjs >> "$dir/out"

echo "What the upstream was sent for OPTIONS *:"
cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
httputil, server as it comes                     nothing
httputil, NewSingleHostReverseProxy              OPTIONS /%2A HTTP/1.1
httputil, Rewrite with SetURL                    OPTIONS /%2A HTTP/1.1
httputil, Rewrite of scheme and host             OPTIONS * HTTP/1.1
fasthttp, in the handler                         path /*, target *
fasthttp, DisablePathNormalizing false           OPTIONS /%2A HTTP/1.1
fasthttp, DisablePathNormalizing true            OPTIONS * HTTP/1.1
http-proxy                                       OPTIONS /* HTTP/1.1
http-proxy-3                                     OPTIONS /* HTTP/1.1
httpxy                                           OPTIONS /* HTTP/1.1
http2-proxy                                      OPTIONS * HTTP/1.1
E
