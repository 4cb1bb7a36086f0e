// Package rest speaks to sluice-server: to the rules in the paths and words of
// the Kubernetes API, and to what is served beside them under /sluice/. The
// commands call it. It is net/http and JSON alone: a client library of Kubernetes
// would double the time in which the command line starts.
package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/inspect"
)

// Bounds of one request.
const (
	DefaultTimeout = 30 * time.Second // until the whole answer is there
	dialTimeout    = 5 * time.Second
	maxAnswer      = 64 << 20 // bytes of one answer; a longer one is an error
	maxLine        = 1 << 20  // bytes of one line of a stream
	pageSize       = 500      // objects of one answer to List
	conflicts      = 5        // tries of Update against another writer
)

// Config says where the server is.
type Config struct {
	// Server is an address as resolve reads it. Empty: api.sock in the default
	// runtime folder.
	Server string
	// Timeout bounds one request. Zero: DefaultTimeout.
	Timeout time.Duration
	// DryRun has the server do all of a write but store it.
	DryRun bool
	// Warn is called with each warning of an answer, in the goroutine of the
	// request. Nil: they are dropped.
	Warn func(text string)
}

// Client speaks to one server. It is safe for concurrent use.
type Client struct {
	address address
	timeout time.Duration
	dryRun  bool
	warn    func(text string)
	http    *http.Client
}

// New returns a client. It does not connect yet.
func New(c Config) (*Client, error) {
	at, err := resolve(c.Server)
	if err != nil {
		return nil, err
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, at.network, at.at)
		},
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true,
		TLSClientConfig:     at.tls,
		TLSHandshakeTimeout: dialTimeout,
	}
	client := &http.Client{
		Transport: transport,
		// A redirect would come from something that is no sluice-server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Client{address: at, timeout: c.Timeout, dryRun: c.DryRun, warn: c.Warn, http: client}, nil
}

// DryRun reports whether nothing that it writes is stored.
func (c *Client) DryRun() bool { return c.dryRun }

// Address returns where the server is, for messages.
func (c *Client) Address() string { return c.address.at }

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Create stores a new object and returns it as it is stored.
func (c *Client) Create(ctx context.Context, o *api.Object) (api.Object, error) {
	kind, err := api.KindOf(o.APIVersion, o.Kind)
	if err != nil {
		return api.Object{}, err
	}
	at, err := collection(kind, o.Metadata.Namespace)
	if err != nil {
		return api.Object{}, err
	}
	// What a server gave another object is not this one's.
	fresh := *o
	fresh.Metadata.ResourceVersion, fresh.Metadata.UID, fresh.Metadata.Generation = "", "", 0
	fresh.Metadata.CreationTimestamp, fresh.Status = time.Time{}, nil
	body, err := api.Encode(&fresh)
	if err != nil {
		return api.Object{}, err
	}
	return c.object(ctx, http.MethodPost, at, body)
}

// Get returns one object; IsNotFound tells the error of one that is not there.
func (c *Client) Get(ctx context.Context, kind *api.Kind, namespace, name string) (api.Object, error) {
	at, err := member(kind, namespace, name)
	if err != nil {
		return api.Object{}, err
	}
	return c.object(ctx, http.MethodGet, at, nil)
}

// List returns the objects of a kind in a namespace, or in AllNamespaces, sorted by
// namespace and name.
func (c *Client) List(ctx context.Context, kind *api.Kind, namespace string) ([]api.Object, error) {
	at, err := collection(kind, namespace)
	if err != nil {
		return nil, err
	}
	objects, _, err := c.list(ctx, kind, at, url.Values{})
	return objects, err
}

// list asks for all pages of a list, the first with a query, and returns the revision
// of the store that they are of.
func (c *Client) list(ctx context.Context, kind *api.Kind, at string, query url.Values) (all []api.Object, revision string, err error) {
	for {
		query.Set("limit", strconv.Itoa(pageSize))
		answer, err := c.do(ctx, http.MethodGet, at, query, nil)
		if err != nil {
			return nil, "", err
		}
		page, of, err := api.DecodeJSONList(answer, kind)
		if err != nil {
			return nil, "", err
		}
		if revision == "" {
			revision = of
		}
		all = append(all, page...)
		var more struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal(answer, &more); err != nil {
			return nil, "", fmt.Errorf("decode list of %s: %w", kind.Plural, err)
		}
		if more.Metadata.Continue == "" || len(page) == 0 {
			return all, revision, nil
		}
		// The token holds the first page's revision: to say it again is an error.
		query = url.Values{"continue": {more.Metadata.Continue}}
	}
}

// Delete removes one object.
func (c *Client) Delete(ctx context.Context, kind *api.Kind, namespace, name string) error {
	at, err := member(kind, namespace, name)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, http.MethodDelete, at, nil, nil)
	return err
}

// Update says how an object that is there takes what a new form of it says.
type Update int

const (
	// Replace takes labels and annotations from the new form alone.
	Replace Update = iota
	// Apply keeps labels and annotations that the new form does not name.
	Apply
)

// Update replaces the spec of an object that is there by the one given, and its
// labels and annotations as how says; what else the store holds of it (finalizers,
// owners, status) stays. An object that names a resource version is written only
// over that one; else the newest is, against other writers too. changed says whether
// it became another, or would: a dry run leaves the resource version as it is.
func (c *Client) Update(ctx context.Context, o *api.Object, how Update) (updated api.Object, changed bool, err error) {
	kind, err := api.KindOf(o.APIVersion, o.Kind)
	if err != nil {
		return api.Object{}, false, err
	}
	at, err := member(kind, o.Metadata.Namespace, o.Metadata.Name)
	if err != nil {
		return api.Object{}, false, err
	}
	for try := 1; ; try++ {
		stored, err := c.do(ctx, http.MethodGet, at, nil, nil)
		if err != nil {
			return api.Object{}, false, err
		}
		body, before, err := merge(stored, o, how)
		if err != nil {
			return api.Object{}, false, err
		}
		updated, err := c.object(ctx, http.MethodPut, at, body)
		if isConflict(err) && o.Metadata.ResourceVersion == "" && try < conflicts {
			continue
		}
		if err != nil {
			return api.Object{}, false, err
		}
		changed := updated.Metadata.ResourceVersion != before
		if c.dryRun && !changed {
			was, err := api.DecodeJSON(stored)
			changed = err != nil || !same(&was, &updated)
		}
		return updated, changed, nil
	}
}

// same says whether two forms of an object ask for the same.
func same(a, b *api.Object) bool {
	return reflect.DeepEqual(a.Spec, b.Spec) && maps.Equal(a.Metadata.Labels, b.Metadata.Labels) && maps.Equal(a.Metadata.Annotations, b.Metadata.Annotations)
}

// merge lays the new form of an object over its stored JSON and returns the JSON
// to write and the resource version that is stored.
func merge(stored []byte, o *api.Object, how Update) ([]byte, string, error) {
	var whole, metadata map[string]json.RawMessage
	if err := json.Unmarshal(stored, &whole); err != nil {
		return nil, "", fmt.Errorf("decode %s: %w", o.ID(), err)
	}
	if err := json.Unmarshal(whole["metadata"], &metadata); err != nil {
		return nil, "", fmt.Errorf("decode metadata of %s: %w", o.ID(), err)
	}
	var before string
	if err := json.Unmarshal(metadata["resourceVersion"], &before); err != nil {
		return nil, "", fmt.Errorf("decode resource version of %s: %w", o.ID(), err)
	}
	set := func(into map[string]json.RawMessage, field string, value any) (err error) {
		into[field], err = json.Marshal(value)
		return err
	}
	for field, given := range map[string]map[string]string{"labels": o.Metadata.Labels, "annotations": o.Metadata.Annotations} {
		result := map[string]string{}
		if how == Apply && len(metadata[field]) > 0 {
			if err := json.Unmarshal(metadata[field], &result); err != nil {
				return nil, "", fmt.Errorf("decode %s of %s: %w", field, o.ID(), err)
			}
		}
		for key, value := range given {
			result[key] = value
		}
		delete(metadata, field)
		if len(result) > 0 {
			if err := set(metadata, field, result); err != nil {
				return nil, "", err
			}
		}
	}
	if o.Metadata.ResourceVersion != "" {
		if err := set(metadata, "resourceVersion", o.Metadata.ResourceVersion); err != nil {
			return nil, "", err
		}
	}
	if err := errors.Join(set(whole, "metadata", metadata), set(whole, "spec", o.Spec)); err != nil {
		return nil, "", fmt.Errorf("encode %s: %w", o.ID(), err)
	}
	body, err := json.Marshal(whole)
	return body, before, err
}

// Sluice asks for what the server serves beside the rules, under a path such as
// /sluice/status, and decodes its JSON.
func (c *Client) Sluice(ctx context.Context, path string, query url.Values, into any) error {
	answer, err := c.do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	return c.decode(path, answer, into)
}

// Post sends what in JSON to a path such as /sluice/credential, and decodes the answer.
func (c *Client) Post(ctx context.Context, path string, what, into any) error {
	body, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	answer, err := c.do(ctx, http.MethodPost, path, nil, body)
	if err != nil {
		return err
	}
	return c.decode(path, answer, into)
}

// decode reads an answer of what is served beside the rules.
func (c *Client) decode(path string, answer []byte, into any) error {
	if err := inspect.Answers.CheckJSON(answer); err != nil {
		return fmt.Errorf("read %s of %s: %w", path, c.Address(), err)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

// Follow asks for a stream under a path such as /sluice/flows and calls each for its lines, without
// their ends, until the server ends it, ctx ends, or each returns an error. A line
// is valid until each returns.
func (c *Client) Follow(ctx context.Context, path string, query url.Values, each func(line []byte) error) error {
	return c.Stream(ctx, path, query, func() {}, each)
}

// Stream is Follow, and calls accepted once the server has said that it answers.
func (c *Client) Stream(ctx context.Context, path string, query url.Values, accepted func(), each func(line []byte) error) error {
	response, err := c.send(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, err := read(response.Body)
		if err != nil {
			return c.explain(err)
		}
		if c.address.tls == nil && SaysTLS(response.StatusCode, body) {
			return TLSPortError(c.Address())
		}
		return statusError(response.StatusCode, body)
	}
	if err := formatOf(response); err != nil {
		return fmt.Errorf("read %s of %s: %w", path, c.Address(), err)
	}
	accepted()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return c.explain(err)
	}
	return nil
}

// formatOf checks the format that the header of a stream says.
func formatOf(response *http.Response) error {
	said := response.Header.Get(inspect.FormatHeader)
	if said == "" {
		return inspect.Answers.Check(0)
	}
	version, err := strconv.Atoi(said)
	if err != nil {
		return fmt.Errorf("%s: %.20q is not a valid format", inspect.FormatHeader, said)
	}
	return inspect.Answers.Check(version)
}
