package rest

import (
	"context"
	"fmt"
	"net/url"

	"sluice.dev/sluice/api"
)

// compactions bounds the tries of All against a store that forgets revisions.
const compactions = 3

// All returns every object of every kind as they were at one revision of the store,
// whoever writes meanwhile, and that revision.
func (c *Client) All(ctx context.Context) (objects []api.Object, revision string, err error) {
	for try := 1; ; try++ {
		objects, revision, err = c.all(ctx)
		if !hasReason(err, "Expired") && !hasReason(err, "Gone") || try == compactions {
			return objects, revision, err
		}
	}
}

func (c *Client) all(ctx context.Context) (objects []api.Object, revision string, err error) {
	for _, kind := range api.Kinds() {
		at, err := collection(kind, AllNamespaces)
		if err != nil {
			return nil, "", err
		}
		query := url.Values{}
		if revision != "" { // of the first kind's list; revisions count for the whole store
			query.Set("resourceVersion", revision)
			query.Set("resourceVersionMatch", "Exact")
		}
		these, of, err := c.list(ctx, kind, at, query)
		if err != nil {
			return nil, "", fmt.Errorf("list %s: %w", kind.Plural, err)
		}
		if revision == "" {
			revision = of
		}
		objects = append(objects, these...)
	}
	return objects, revision, nil
}
