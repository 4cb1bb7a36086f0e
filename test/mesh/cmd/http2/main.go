// Command http2 is both ends of HTTP/2 in the clear for tests, as net/http has them: "http2 serve
// ADDRESS" answers in either version with the version, the method and the body of each request,
// (GET /long with 64 MiB), and "http2 post URL TEXT" posts by prior knowledge and says what came
// of it. Tests run it in sandboxes. It never retries.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) == 3 && args[0] == "post":
		return post(args[1], args[2])
	}
	return fmt.Errorf("usage: http2 serve ADDRESS | http2 post URL TEXT")
}

func serve(address string) error {
	s := &http.Server{Addr: address, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			for range 1 << 10 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Length")
		fmt.Fprintf(w, "%s %s %s", r.Proto, r.Method, body)
		w.Header().Set("X-Length", fmt.Sprint(len(body)))
	})
	return s.ListenAndServe()
}

func post(url, text string) error {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	response, err := client.Post(url, "text/plain", strings.NewReader(text))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	fmt.Printf("%s %d: %s (%s bytes)\n", response.Proto, response.StatusCode, body, response.Trailer.Get("X-Length"))
	return nil
}
