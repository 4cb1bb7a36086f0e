#!/usr/bin/env bash
#
# grpc-js leaves the escapes of ?, # and / in an error's text that tonic and others write.
#
# Versions: npm @grpc/grpc-js 1.14.7; crates.io tonic 0.14.9; PyPI grpcio 1.85.3, h2 4.4.1.
#
# Expected: gRPC over HTTP/2 carries an error's text percent-encoded in grpc-message. "%"
#   and what is not printable ASCII is escaped, the rest need not be; who reads it takes
#   every "%" HEXDIG HEXDIG for the byte that it names ("Responses", Status-Message).
#
# Seen: a server with tonic escapes more than it must, blank, # and ? among it. grpcio
#   reads the text that was meant. grpc-js decodes with JavaScript's decodeURI, which
#   leaves the escapes of the characters that separate parts of a URI, ; / ? : @ & = + $ ,
#   and #, as they are: "why?" arrives as "why%3F". The same function gives up at the first
#   "%" that begins no escape, and then decodes nothing at all, where grpcio decodes the
#   rest.
#
# Why it matters here: a proxy that answers for an upstream writes the reason and the rule
#   that would allow the call into grpc-message. It escapes what it must and nothing more:
#   with a path or a question escaped too, the line cannot be pasted by those who call with
#   Node.js.
#
# Needs: bash, Python 3 with venv, Node.js with npm, Rust with cargo.
set -euo pipefail
export PYTHONUTF8=1

dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$dir"' EXIT
mkdir -p "$dir/js" "$dir/rs/src"

cd "$dir/rs"
cat > Cargo.toml <<'E'
[package]
name = "finding"
version = "0.1.0"
edition = "2021"

[dependencies]
tonic = { version = "=0.14.9", default-features = false }
http = "1"
E
cat > src/main.rs <<'E'
fn main() {
    for message in ["who are you?", "see #7", "a: b/c", "50% of café"] {
        let mut headers = http::HeaderMap::new();
        tonic::Status::permission_denied(message)
            .add_header(&mut headers)
            .unwrap();
        println!("tonic {}", headers["grpc-message"].to_str().unwrap());
    }
}
E
CARGO_TARGET_DIR="$dir/target" cargo run -q > "$dir/messages"
cat >> "$dir/messages" <<'E'
escaped a%3A%20b%2Fc
partly caf%C3%A9 100% sure
E

python3 -m venv "$dir/py"
"$dir/py/bin/pip" install -q --disable-pip-version-check h2==4.4.1 grpcio==1.85.3
cat > "$dir/server.py" <<'E'
import os
import socket
import sys
import threading

import h2.config
import h2.connection
import h2.events

messages = [line.split(" ", 1)[1] for line in open(sys.argv[1]).read().splitlines()]


def serve(c):
    h = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    h.initiate_connection()
    c.sendall(h.data_to_send())
    while data := c.recv(65536):
        for event in h.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                number = int(dict(event.headers)[":path"].rsplit("/", 1)[1])
                h.send_headers(event.stream_id, [
                    (":status", "200"), ("content-type", "application/grpc"),
                    ("grpc-status", "7"), ("grpc-message", messages[number]),
                ], end_stream=True)
        c.sendall(h.data_to_send())


s = socket.create_server(("127.0.0.1", 0))
with open(sys.argv[2] + ".new", "w") as f:
    f.write(str(s.getsockname()[1]))
os.rename(sys.argv[2] + ".new", sys.argv[2])
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
E
"$dir/py/bin/python" "$dir/server.py" "$dir/messages" "$dir/port" &
server=$!
for _ in $(seq 300); do [ -e "$dir/port" ] && break; sleep 0.1; done
port=$(cat "$dir/port")

cp "$dir/messages" "$dir/out"
"$dir/py/bin/python" - "$port" >> "$dir/out" <<'E'
import sys
import grpc

channel = grpc.insecure_channel("127.0.0.1:" + sys.argv[1])
for n in range(6):
    try:
        channel.unary_unary(f"/finding.Service/{n}")(b"", timeout=60)
    except grpc.RpcError as e:
        print(f"grpcio, {e.code().name}: {e.details()}")
E

cd "$dir/js"
npm install --silent --no-audit --no-fund --ignore-scripts @grpc/grpc-js@1.14.7
cat > main.js <<'E'
const grpc = require("@grpc/grpc-js");

const client = new grpc.Client("127.0.0.1:" + process.argv[2], grpc.credentials.createInsecure());
const bytes = (b) => b;
(async () => {
  for (let n = 0; n < 6; n++) {
    await new Promise((done) => client.makeUnaryRequest("/finding.Service/" + n, bytes, bytes, Buffer.alloc(0), (e) => {
      console.log(`grpc-js, ${grpc.status[e.code]}: ${e.details}`);
      done();
    }));
  }
  client.close();
})();
E
node main.js "$port" >> "$dir/out"

cat "$dir/out"
diff -u - "$dir/out" <<'E' || { echo "The behaviour is not what this finding says." >&2; exit 1; }
tonic who%20are%20you%3F
tonic see%20%237
tonic a:%20b/c
tonic 50%25%20of%20caf%C3%A9
escaped a%3A%20b%2Fc
partly caf%C3%A9 100% sure
grpcio, PERMISSION_DENIED: who are you?
grpcio, PERMISSION_DENIED: see #7
grpcio, PERMISSION_DENIED: a: b/c
grpcio, PERMISSION_DENIED: 50% of café
grpcio, PERMISSION_DENIED: a: b/c
grpcio, PERMISSION_DENIED: café 100% sure
grpc-js, PERMISSION_DENIED: who are you%3F
grpc-js, PERMISSION_DENIED: see %237
grpc-js, PERMISSION_DENIED: a: b/c
grpc-js, PERMISSION_DENIED: 50% of café
grpc-js, PERMISSION_DENIED: a%3A b%2Fc
grpc-js, PERMISSION_DENIED: caf%C3%A9 100% sure
E
