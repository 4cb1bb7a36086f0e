package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"time"
)

// maxAnswer bounds what is read of another service's answer, in bytes.
const maxAnswer = 1 << 20

// traceHeaders are handed on so that a trace holds together.
var traceHeaders = []string{
	"x-request-id", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid",
	"x-b3-sampled", "x-b3-flags", "x-ot-span-context",
}

// backends names the other services.
type backends struct {
	Details, Reviews, Ratings string // host:port
}

func backendsFromEnvironment() backends {
	port := environment("SERVICES_PORT", "9080")
	at := func(name, host string) string { return net.JoinHostPort(environment(name, host), port) }
	return backends{
		Details: at("DETAILS_HOSTNAME", "details"),
		Reviews: at("REVIEWS_HOSTNAME", "reviews"),
		Ratings: at("RATINGS_HOSTNAME", "ratings"),
	}
}

// forwarded picks the headers of an incoming request that an outgoing one
// carries: the trace, and of the cookies the user alone.
func forwarded(r *http.Request, withUser bool) http.Header {
	h := http.Header{}
	for _, name := range traceHeaders {
		if v := r.Header.Get(name); v != "" {
			h.Set(name, v)
		}
	}
	if c, err := r.Cookie("user"); withUser && err == nil {
		h.Set("Cookie", "user="+c.Value)
	}
	return h
}

// fetch gets url within the time-out and returns the status and the body.
func fetch(ctx context.Context, client *http.Client, url, host string, h http.Header, timeout time.Duration) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header = h
	if host != "" {
		req.Host = host
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, body, err
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // the original writes < and & as they are
	e.Encode(v)
}
