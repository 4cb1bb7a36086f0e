package proxy

import (
	"context"
	"net"

	contract "sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/http2"
)

// engines returns what serves the requests of one workload: the engine of HTTP/1.1, which
// hands connections of HTTP/2 to the other one, and gets their streams back.
func engines(settled func()) (one *http1.Server, two *http2.Server) {
	two = http2.NewServer(http2.Config{Serve: func(ctx context.Context, line *http2.Line, director contract.Director) {
		one.ServeStream(ctx, line, director) // its error is in the record
	}})
	one = http1.NewServer(http1.Config{Settled: settled, HTTP2: func(ctx context.Context, tcp *net.TCPConn, said []byte, director contract.Multiplexed) {
		two.Serve(ctx, tcp, said, director) // its error says that the workload ends
	}})
	return one, two
}
