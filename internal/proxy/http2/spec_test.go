package http2_test

import (
	"net/http"
	"os"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// TestServeForAConformanceTool serves for as long as SLUICE_HTTP2_SERVE says, on the address
// that it writes into the file SLUICE_HTTP2_ADDRESS: what h2spec is run against.
func TestServeForAConformanceTool(t *testing.T) {
	for_, err := time.ParseDuration(os.Getenv("SLUICE_HTTP2_SERVE"))
	if err != nil {
		t.Skip("SLUICE_HTTP2_SERVE is not set")
	}
	f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("hello, this is some text\n")) }), http2.Limits{})
	os.WriteFile(os.Getenv("SLUICE_HTTP2_ADDRESS"), []byte(f.address), 0o600)
	time.Sleep(for_)
}
