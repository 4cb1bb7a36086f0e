package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"sluice.dev/sluice/internal/control/push"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// What the API server says of a token that is bound to a Pod.
const (
	podNameClaim = "authentication.kubernetes.io/pod-name"
	podUIDClaim  = "authentication.kubernetes.io/pod-uid"
)

const (
	// keepReview is how long what the API server said of a token counts: both streams of a
	// proxy, and a proxy that comes back, ask once. That its Pod is there is looked at each
	// time.
	keepReview = time.Minute
	// maxReviews bounds what is kept.
	maxReviews = 4096
	// maxAsking bounds the questions to the API server that are open at a time.
	maxAsking = 32
	// maxLifetime is for how long a token counts that does not say its end.
	maxLifetime = time.Hour
)

// holder is who a token was given to.
type holder struct {
	pod     key
	uid     types.UID
	account string
	expires time.Time
}

// tokens asks the API server whose a token is.
type tokens struct {
	client kubernetes.Interface
	log    *slog.Logger
	asking chan struct{}

	mu   sync.Mutex
	kept map[[sha256.Size]byte]review // by the hash of the token
}

type review struct {
	holder
	until time.Time
}

func (t *tokens) init(client kubernetes.Interface, log *slog.Logger) {
	t.client, t.log = client, log
	t.asking = make(chan struct{}, maxAsking)
	t.kept = make(map[[sha256.Size]byte]review)
}

// Attest implements push.Attestor: a token for our audience, bound to a Pod that is there.
func (c *Cluster) Attest(ctx context.Context, token string) (push.Attested, error) {
	of, err := c.tokens.holder(ctx, token)
	if err != nil {
		return push.Attested{}, err
	}
	c.mu.Lock()
	known := c.pods[of.pod]
	c.mu.Unlock()
	switch {
	case known == nil:
		// The API server said that the Pod is there: the watch is behind, or the Pod ended.
		return push.Attested{}, fmt.Errorf("the Pod %s/%s is not known yet", of.pod.namespace, of.pod.name)
	case known.uid != of.uid:
		return push.Attested{}, fmt.Errorf("%w: it is of another Pod that was called %s/%s", push.ErrRefused, of.pod.namespace, of.pod.name)
	case known.onNode:
		return push.Attested{}, fmt.Errorf("%w: Pod %s/%s shares the network of its node (hostNetwork), which no sidecar holds", push.ErrRefused, of.pod.namespace, of.pod.name)
	case known.problem != nil:
		return push.Attested{}, fmt.Errorf("%w: %w", push.ErrRefused, known.problem)
	case known.workload.Account != of.account:
		return push.Attested{}, fmt.Errorf("%w: it is of ServiceAccount %s, and Pod %s/%s runs as %s", push.ErrRefused, of.account, of.pod.namespace, of.pod.name, known.workload.Account)
	}
	return push.Attested{Expires: of.expires, Now: func() (wire.Workload, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		now := c.pods[of.pod]
		if now == nil || now.uid != of.uid || now.problem != nil {
			return wire.Workload{}, false
		}
		return now.workload, true
	}}, nil
}

// holder returns who a token was given to.
func (t *tokens) holder(ctx context.Context, token string) (holder, error) {
	hash, now := sha256.Sum256([]byte(token)), time.Now()
	t.mu.Lock()
	known, ok := t.kept[hash]
	t.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.holder, nil
	}
	select {
	case t.asking <- struct{}{}:
		defer func() { <-t.asking }()
	case <-ctx.Done():
		return holder{}, fmt.Errorf("too many tokens are asked about: %w", ctx.Err())
	}
	asked, err := t.client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{stream.TokenAudience}},
	}, metav1.CreateOptions{})
	if apierrors.IsBadRequest(err) || apierrors.IsInvalid(err) {
		return holder{}, fmt.Errorf("%w: the cluster cannot read it", push.ErrRefused)
	}
	if err != nil {
		return holder{}, fmt.Errorf("ask the cluster whose the token is: %w", err)
	}
	found, err := holderOf(&asked.Status, token, now)
	if err != nil {
		return holder{}, err
	}
	t.keep(hash, review{found, earlier(now.Add(keepReview), found.expires)}, now)
	return found, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// holderOf reads what the API server said.
func holderOf(said *authenticationv1.TokenReviewStatus, token string, now time.Time) (holder, error) {
	if !said.Authenticated {
		return holder{}, fmt.Errorf("%w: the cluster does not accept it for %s", push.ErrRefused, stream.TokenAudience)
	}
	// A server that knows no audiences names none: then nobody said that it is for us.
	if !slices.Contains(said.Audiences, stream.TokenAudience) {
		return holder{}, fmt.Errorf("%w: it is not for %s", push.ErrRefused, stream.TokenAudience)
	}
	namespace, account, ok := strings.Cut(strings.TrimPrefix(said.User.Username, "system:serviceaccount:"), ":")
	if !ok || !strings.HasPrefix(said.User.Username, "system:serviceaccount:") {
		return holder{}, fmt.Errorf("%w: it is not a ServiceAccount's", push.ErrRefused)
	}
	names, uids := said.User.Extra[podNameClaim], said.User.Extra[podUIDClaim]
	if len(names) != 1 || len(uids) != 1 {
		return holder{}, fmt.Errorf("%w: it is not bound to a Pod", push.ErrRefused)
	}
	expires := expiryOf(token)
	if expires.IsZero() {
		expires = now.Add(maxLifetime)
	}
	return holder{pod: key{namespace, names[0]}, uid: types.UID(uids[0]), account: account, expires: expires}, nil
}

// expiryOf reads the end of a token that was verified; zero where it says none.
func expiryOf(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expires int64 `json:"exp"`
	}
	if json.Unmarshal(b, &claims) != nil || claims.Expires <= 0 {
		return time.Time{}
	}
	return time.Unix(claims.Expires, 0)
}

// keep keeps a review, and forgets what is over, or all where there are too many.
func (t *tokens) keep(hash [sha256.Size]byte, fresh review, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) >= maxReviews {
		for other, kept := range t.kept {
			if !now.Before(kept.until) {
				delete(t.kept, other)
			}
		}
		if len(t.kept) >= maxReviews {
			clear(t.kept)
		}
	}
	t.kept[hash] = fresh
}
