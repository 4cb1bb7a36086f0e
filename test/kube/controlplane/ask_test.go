package controlplane

import (
	"context"
	"net/http"

	"sluice.dev/sluice/internal/kube/reach"
)

// fixed is servers that stay.
type fixed []reach.Server

func (f fixed) list(context.Context) ([]reach.Server, error) { return f, nil }

// inspected carries requests to one address, under the name that they have.
type inspected string

// RoundTrip implements http.RoundTripper.
func (i inspected) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	if request.Host == "" {
		request.Host = request.URL.Host
	}
	request.URL.Scheme, request.URL.Host, request.RequestURI = "http", string(i), ""
	return http.DefaultTransport.RoundTrip(request)
}
