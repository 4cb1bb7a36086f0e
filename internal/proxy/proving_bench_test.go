package proxy

import (
	"fmt"
	"io"
	"net"
	"testing"

	"sluice.dev/sluice/internal/policy"
)

// BenchmarkPassedThroughTLS is the time of a request by a client's own TLS, to servers
// that were proved before and to such that were not.
func BenchmarkPassedThroughTLS(b *testing.B) {
	for name, each := range map[string]bool{"proved": false, "unproved": true} {
		b.Run(name, func(b *testing.B) {
			n := newFakeNet(b)
			n.site("www.example.com", "93.184.215.15", 443, n.overTLS(func(c net.Conn) {
				c.Read(make([]byte, 1024))
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
			}, "*.example.com"))
			all := make([]string, b.N)
			rules := make([]policy.Rule, b.N)
			for i := range all {
				all[i] = "www.example.com"
				if each {
					all[i] = fmt.Sprintf("h%d.example.com", i)
				}
				n.dns[all[i]+"."] = "93.184.215.15"
				rules[i] = rule(b, all[i])
			}
			m := newMesh(b, n, rules[:min(len(rules), b.N)]...)
			b.ResetTimer()
			for _, name := range all {
				if got, err := m.getTLS(name, 443); got != "HTTP/1.1 200 OK" {
					b.Fatal(got, err)
				}
			}
		})
	}
}
