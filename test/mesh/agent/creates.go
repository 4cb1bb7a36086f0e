package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// RuleName is the name of the i-th rule of Creates.
func RuleName(i int64) string { return fmt.Sprintf("created-%04d", i) }

const egressRule = `{"apiVersion":"config.istio.io/v1alpha2","kind":"EgressRule","metadata":{"name":%q},
"spec":{"destination":{"service":"h%d.example.com"},"ports":[{"port":443,"protocol":"https"}]}}`

// Creates creates rules at api.sock, several at a time, and writes the name of
// each that was acknowledged to a file, a line each, before it goes on. It ends
// after n, or when the server goes away.
func Creates(socket, file string, n int64) error {
	const writers = 8
	acknowledged, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer acknowledged.Close()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: writers,
	}}
	var next atomic.Int64
	var work sync.WaitGroup
	failed := make(chan error, writers)
	for range writers {
		work.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				response, err := client.Post("http://sluice/apis/config.istio.io/v1alpha2/namespaces/default/egressrules",
					"application/json", strings.NewReader(fmt.Sprintf(egressRule, RuleName(i), i)))
				if err != nil {
					return // the server is gone
				}
				response.Body.Close()
				if response.StatusCode != http.StatusCreated {
					failed <- fmt.Errorf("create %s: %s", RuleName(i), response.Status)
					return
				}
				if _, err := fmt.Fprintln(acknowledged, RuleName(i)); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	work.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
