package rest

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"

	"sluice.dev/sluice/api"
)

// object sends a request whose answer is one object.
func (c *Client) object(ctx context.Context, method, path string, body []byte) (api.Object, error) {
	answer, err := c.do(ctx, method, path, nil, body)
	if err != nil {
		return api.Object{}, err
	}
	return api.DecodeJSON(answer)
}

// do sends a request and returns the body of its answer, or what the server says
// is wrong.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errTimeout)
	defer cancel()
	response, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := read(response.Body)
	if err != nil {
		if errors.Is(context.Cause(ctx), errTimeout) {
			err = errTimeout
		}
		return nil, c.explain(err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		if c.address.tls == nil && SaysTLS(response.StatusCode, answer) {
			return nil, TLSPortError(c.Address())
		}
		return nil, statusError(response.StatusCode, answer)
	}
	return answer, nil
}

func (c *Client) send(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	if c.dryRun && method != http.MethodGet {
		query = maps.Clone(query)
		if query == nil {
			query = make(url.Values)
		}
		query.Set("dryRun", "All")
	}
	target := url.URL{Scheme: c.address.scheme(), Host: c.address.host, Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		if errors.Is(context.Cause(ctx), errTimeout) {
			err = errTimeout
		}
		return nil, c.explain(err)
	}
	if c.warn != nil {
		for _, header := range response.Header.Values("Warning") {
			if text, ok := warningText(header); ok {
				c.warn(text)
			}
		}
	}
	return response, nil
}

// maxWarning bounds the text of one warning, in bytes; a longer one is not read.
const maxWarning = 4 << 10

// warningText reads a warning as the Kubernetes API sends it: the code 299, an
// agent, and the text in quotes (RFC 7234 section 5.5).
func warningText(header string) (string, bool) {
	rest, ok := strings.CutPrefix(header, "299 ")
	if !ok || len(header) > maxWarning {
		return "", false
	}
	_, quoted, ok := strings.Cut(rest, " ")
	if !ok || len(quoted) < 2 || quoted[0] != '"' || quoted[len(quoted)-1] != '"' {
		return "", false
	}
	var text strings.Builder
	escaped := false
	for _, r := range quoted[1 : len(quoted)-1] {
		switch {
		case r == '\\' && !escaped:
			escaped = true
			continue
		case !strconv.IsPrint(r):
			r = '?' // a terminal obeys control characters
		}
		text.WriteRune(r)
		escaped = false
	}
	return text.String(), text.Len() > 0
}

func read(body io.Reader) ([]byte, error) {
	answer, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return answer, err
}

var errTimeout = errors.New("no whole answer in time")

// ErrNoServer is wrapped by the error of a request that reached no server.
var ErrNoServer = errors.New("no sluice-server answers")

// SaysTLS reports whether an answer is that of a TLS port (net/http's) to a request in
// the clear.
func SaysTLS(code int, body []byte) bool {
	return code == http.StatusBadRequest && bytes.HasPrefix(body, []byte("Client sent an HTTP request to an HTTPS server"))
}

// TLSPortError is the error of a request in the clear to such a port.
func TLSPortError(at string) error {
	return fmt.Errorf("%s speaks TLS, and wants a client certificate: %s", at, byKubeconfig)
}

// explainTLS is explain of a server that a kubeconfig names.
func (a *address) explainTLS(err error) error {
	var expired x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w at %s, which the kubeconfig names; start it with --api-listen, or write the file anew with sluice kubeconfig --address HOST:PORT", ErrNoServer, a.at)
	case errors.As(err, &unknown), errors.As(err, &expired):
		return fmt.Errorf("sluice-server at %s: %w: the kubeconfig is of another server, or of an earlier authority of it; write it anew with sluice kubeconfig", a.at, err)
	}
	return fmt.Errorf("sluice-server at %s: %w", a.at, err)
}

// explain says of a request that reached no server, or got no answer, what to do next.
func (a *address) explain(err error) error {
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err // without the method and a URL that nobody typed
	}
	if a.tls != nil {
		return a.explainTLS(err)
	}
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w at %s; start one with sluice-server (or sluice demo) as the same user, or name another with --server", ErrNoServer, a.at)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w that we may speak to at %s: the socket is another user's; start one of your own with sluice-server, or name another with --server", ErrNoServer, a.at)
	}
	return fmt.Errorf("sluice-server at %s: %w", a.at, err)
}

// explain is that of the address, and says how long an answer was waited for.
func (c *Client) explain(err error) error {
	if errors.Is(err, errTimeout) {
		return fmt.Errorf("sluice-server at %s: no whole answer within %s", c.Address(), c.timeout)
	}
	return c.address.explain(err)
}
