package endpoint

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

func TestHealthIsWhatWasSaidLast(t *testing.T) {
	listener, err := Listen("health", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var health Health
	go func() {
		defer close(ended)
		Serve(ctx, listener, At(HealthPath, &health), slog.New(slog.DiscardHandler))
	}()
	url := "http://" + listener.Addr().String()
	ask := func(path string, want int) {
		t.Helper()
		answer, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d, not %d", path, answer.StatusCode, want)
		}
	}
	ask(HealthPath, 503)
	health.Set(true)
	ask(HealthPath, 200)
	ask("/", 404)
	health.Set(false)
	ask(HealthPath, 503)
	end()
	<-ended
	if _, err := http.Get(url + HealthPath); err == nil {
		t.Error("it is served after its end")
	}
}

func TestAnAddressThatCannotBeListenedOnNamesItsFlag(t *testing.T) {
	for _, address := range []string{"15020", "127.0.0.1", "192.0.2.1:15020"} {
		if _, err := Listen("metrics", address); err == nil || !strings.Contains(err.Error(), "--metrics") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
