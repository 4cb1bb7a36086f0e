package http2_test

import (
	"io"
	"net/http"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// The end of an answer needs no window, even where the client has lowered it below zero.
func TestAnAnswerEndsWithAWindowBelowZero(t *testing.T) {
	hold := make(chan struct{})
	f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "0123456789")
		http.NewResponseController(w).Flush()
		<-hold
	}), http2.Limits{})
	p := f.peer(t, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 10})
	p.get(1)
	p.until("the body", func(fr xhttp2.Frame) bool {
		_, ok := fr.(*xhttp2.DataFrame)
		return ok
	})
	p.framer.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
	p.taken()
	close(hold)
	p.until("the end", func(fr xhttp2.Frame) bool {
		d, ok := fr.(*xhttp2.DataFrame)
		if ok && !d.StreamEnded() {
			t.Fatal("a frame of DATA that is empty and ends nothing")
		}
		return ok
	})
}
