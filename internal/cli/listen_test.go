//go:build linux

package cli

import (
	"fmt"
	"strings"
	"testing"
)

func TestListenNamesPortsAndWhatIsSpokenThere(t *testing.T) {
	for _, x := range []struct{ texts, want string }{
		{"", "[] map[]"}, {"9080", "[9080] map[]"}, {"3306/tcp 9080/HTTP 1", "[3306 9080 1] map[3306:tcp 9080:http]"},
		{"9080/tcp 9080/tcp", "[9080 9080] map[9080:tcp]"}, {"9080/http2 50051/gRPC", "[9080 50051] map[9080:http2 50051:grpc]"},
	} {
		ports, protocols, err := parseListen(strings.Fields(x.texts))
		if got := fmt.Sprint(ports, protocols); err != nil || got != x.want {
			t.Errorf("%s: %s, %v; want %s", x.texts, got, err, x.want)
		}
	}
	for texts, want := range map[string]string{
		"0": "must be a port", "65536": "must be a port", "x/tcp": "must be a port", "/tcp": "must be a port", "9080/": `protocol "" is none of`,
		"9080/https": "protocol https is not supported yet for a service; use http, http2, grpc or tcp", "9080/ftp": `protocol "ftp" is none of`,
		"9080/udp": "not supported yet", "9080/tcp 9080/http": "given another protocol", "9080 9080/http": "given another protocol",
	} {
		if _, _, err := parseListen(strings.Fields(texts)); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "--listen ") {
			t.Errorf("%s: %v, want %s", texts, err, want)
		}
	}
}
