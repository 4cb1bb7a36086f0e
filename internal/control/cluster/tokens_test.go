package cluster

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"sluice.dev/sluice/internal/control/push"
	"sluice.dev/sluice/internal/wire/stream"
)

// reviewed is a cluster that says the same of every token, and counts how often.
func reviewed(t *testing.T, said authenticationv1.TokenReviewStatus, failure error) (c *Cluster, asked *int) {
	t.Helper()
	asked = new(int)
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		*asked++
		review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		if got := review.Spec.Audiences; len(got) != 1 || got[0] != stream.TokenAudience {
			t.Errorf("asked for the audiences %q", got)
		}
		return true, &authenticationv1.TokenReview{Status: said}, failure
	})
	c = newCluster(Config{Log: slog.New(slog.DiscardHandler)}, client)
	put(t, c, podNamed("web-1", "10.1.0.1", map[string]string{"app": "web"}))
	return c, asked
}

func accepted() authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: []string{stream.TokenAudience},
		User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:shop:till",
			Extra:    map[string]authenticationv1.ExtraValue{podNameClaim: {"web-1"}, podUIDClaim: {"uid-of-web-1"}},
		},
	}
}

func jwt(expires time.Time) string {
	claims := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, expires.Unix()))
	return "e30." + claims + ".c2ln"
}

func TestATokenIsItsPodsAndThePodIsWhatTheClusterSays(t *testing.T) {
	c, asked := reviewed(t, accepted(), nil)
	expires := time.Now().Add(30 * time.Minute).Truncate(time.Second)
	for range 3 {
		attested, err := c.Attest(t.Context(), jwt(expires))
		if err != nil {
			t.Fatal(err)
		}
		if !attested.Expires.Equal(expires) {
			t.Errorf("it counts until %s, not until %s", attested.Expires, expires)
		}
		if w, ok := attested.Now(); !ok || w.Instance != "web-1.shop" || w.Namespace != "shop" || w.Account != "till" || w.Labels["app"] != "web" {
			t.Errorf("%+v, %v", w, ok)
		}
	}
	if *asked != 1 {
		t.Errorf("the API server was asked %d times about one token", *asked)
	}
	attested, err := c.Attest(t.Context(), jwt(expires))
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, podNamed("web-1", "10.1.0.1", map[string]string{"app": "other"}))
	if w, ok := attested.Now(); !ok || w.Labels["app"] != "other" {
		t.Errorf("after its labels changed: %+v, %v", w, ok)
	}
	c.mu.Lock()
	c.removePod(key{"shop", "web-1"})
	c.mu.Unlock()
	if w, ok := attested.Now(); ok {
		t.Errorf("after it was deleted: %+v", w)
	}
	if _, err := c.Attest(t.Context(), jwt(expires)); err == nil {
		t.Error("the token of a Pod that was deleted counts, since it did a moment ago")
	}
}

func TestATokenThatIsNotBoundToALivingPodForUsIsRefused(t *testing.T) {
	for what, spoil := range map[string]func(*authenticationv1.TokenReviewStatus){
		"not authenticated":           func(s *authenticationv1.TokenReviewStatus) { s.Authenticated = false },
		"for another audience":        func(s *authenticationv1.TokenReviewStatus) { s.Audiences = []string{"vault"} },
		"for no audience":             func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil },
		"a user's":                    func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "jason" },
		"a user's that looks like it": func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "shop:till" },
		"not bound to a Pod":          func(s *authenticationv1.TokenReviewStatus) { s.User.Extra = nil },
		"of an earlier Pod": func(s *authenticationv1.TokenReviewStatus) {
			s.User.Extra[podUIDClaim] = authenticationv1.ExtraValue{"uid-before"}
		},
		"of another ServiceAccount": func(s *authenticationv1.TokenReviewStatus) {
			s.User.Username = "system:serviceaccount:shop:admin"
		},
	} {
		said := accepted()
		spoil(&said)
		c, _ := reviewed(t, said, nil)
		if _, err := c.Attest(t.Context(), jwt(time.Now().Add(time.Hour))); !errors.Is(err, push.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// One that shares its node's network has a token and no sidecar that holds it.
	c, _ := reviewed(t, accepted(), nil)
	shared := podNamed("web-1", "192.168.77.1", map[string]string{"app": "web"})
	shared.Spec.HostNetwork = true
	stripPod(shared)
	put(t, c, shared)
	if _, err := c.Attest(t.Context(), jwt(time.Now().Add(time.Hour))); !errors.Is(err, push.ErrRefused) || !strings.Contains(err.Error(), "hostNetwork") {
		t.Errorf("of a Pod on its node's network: %v", err)
	}
	// Of a Pod that is not known the watch may be behind, and a server that does not answer
	// says nothing: both are asked again.
	said := accepted()
	said.User.Extra[podNameClaim] = authenticationv1.ExtraValue{"web-9"}
	c, _ = reviewed(t, said, nil)
	if _, err := c.Attest(t.Context(), "t"); err == nil || errors.Is(err, push.ErrRefused) {
		t.Errorf("a Pod that is not known: %v", err)
	}
	c, _ = reviewed(t, accepted(), errors.New("connection refused"))
	if _, err := c.Attest(t.Context(), "t"); err == nil || errors.Is(err, push.ErrRefused) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("an API server that is away: %v", err)
	}
}

func TestWhatIsKeptOfTokensAndHowManyAreAskedAboutIsBounded(t *testing.T) {
	c, asked := reviewed(t, accepted(), nil)
	for i := range maxReviews + 10 {
		if _, err := c.Attest(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.tokens.kept) > maxReviews || *asked != maxReviews+10 {
		t.Errorf("%d reviews are kept of %d", len(c.tokens.kept), *asked)
	}
	for range maxAsking {
		c.tokens.asking <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Attest(ctx, "another"); err == nil || errors.Is(err, push.ErrRefused) {
		t.Errorf("beside %d questions: %v", maxAsking, err)
	}
}
