// Command tool is what runs in Pods of the tests of a node: a server, and a client that asks
// without end and counts. The tests build it and make an image of it; it must never be taken for a
// program of Sluice.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Counts is what a client has seen.
type Counts struct {
	Answered int      // requests with 200
	Failed   int      // others
	Failures []string // the first of them
}

const (
	countsAddress = "127.0.0.1:8099" // of a client, in its Pod
	every         = 10 * time.Millisecond
	timeout       = 20 * time.Second // of one request
	maxFailures   = 20
	drain         = 5 * time.Second // how long a server goes on after it was asked to end
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, args[1])
	case len(args) > 1 && args[0] == "load":
		return load(ctx, args[1:])
	case len(args) == 1 && args[0] == "counts":
		return counts()
	case len(args) == 2 && args[0] == "get":
		return get(args[1])
	}
	return errors.New("tool serve PORT | load URL... | counts | get URL")
}

// serve answers until it is asked to end, and then for as long as the cluster needs to send
// nobody more.
func serve(ctx context.Context, port string) error {
	server := &http.Server{Addr: ":" + port, ReadHeaderTimeout: timeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, os.Getenv("HOSTNAME"))
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	time.Sleep(drain)
	ending, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	return server.Shutdown(ending)
}

// load asks each URL on a connection that is kept and on one of its own, in turn.
func load(ctx context.Context, urls []string) error {
	var mu sync.Mutex
	var all Counts
	note := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			all.Answered++
			return
		}
		all.Failed++
		if len(all.Failures) < maxFailures {
			all.Failures = append(all.Failures, time.Now().UTC().Format(time.TimeOnly)+" "+err.Error())
		}
	}
	listener, err := net.Listen("tcp", countsAddress)
	if err != nil {
		return err
	}
	go func() {
		_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // until the process ends
			mu.Lock()
			defer mu.Unlock()
			_ = json.NewEncoder(w).Encode(all) // who asked may be gone
		}))
	}()
	var asking sync.WaitGroup
	for _, url := range urls {
		for _, fresh := range []bool{false, true} {
			asking.Go(func() {
				client := &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: fresh}}
				for ctx.Err() == nil {
					note(once(client, url))
					time.Sleep(every)
				}
			})
		}
	}
	asking.Wait()
	return nil
}

func once(client *http.Client, url string) error {
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d %.200s", url, response.StatusCode, body)
	}
	return err
}

func counts() error { return get("http://" + countsAddress) }

func get(url string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %d", response.StatusCode)
	}
	return err
}
