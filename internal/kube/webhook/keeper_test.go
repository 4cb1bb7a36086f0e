package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clients "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"

	"sluice.dev/sluice/internal/control/authority"
)

// store holds one configuration of each kind, as an API server would.
type store struct {
	mu      sync.Mutex
	version int
	bundles [][]byte
	patches int
	looks   int
	fail    error
	race    func() // called once between a Get and its Patch
}

func (s *store) ValidatingWebhookConfigurations() clients.ValidatingWebhookConfigurationInterface {
	return validating{store: s}
}

type validating struct {
	clients.ValidatingWebhookConfigurationInterface
	store *store
}

func (v validating) Get(context.Context, string, metav1.GetOptions) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	found := new(admissionregistrationv1.ValidatingWebhookConfiguration)
	version, bundles, err := v.store.get()
	found.ResourceVersion = version
	for _, bundle := range bundles {
		found.Webhooks = append(found.Webhooks, admissionregistrationv1.ValidatingWebhook{ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: bundle}})
	}
	return found, err
}

func (s *store) MutatingWebhookConfigurations() clients.MutatingWebhookConfigurationInterface {
	return mutating{store: s}
}

type mutating struct {
	clients.MutatingWebhookConfigurationInterface
	store *store
}

func (m mutating) Get(context.Context, string, metav1.GetOptions) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	found := new(admissionregistrationv1.MutatingWebhookConfiguration)
	version, bundles, err := m.store.get()
	found.ResourceVersion = version
	for _, bundle := range bundles {
		found.Webhooks = append(found.Webhooks, admissionregistrationv1.MutatingWebhook{ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: bundle}})
	}
	return found, err
}

func (m mutating) Patch(_ context.Context, _ string, _ types.PatchType, patch []byte, _ metav1.PatchOptions, _ ...string) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	return nil, m.store.patch(patch)
}

func (v validating) Patch(_ context.Context, _ string, _ types.PatchType, patch []byte, _ metav1.PatchOptions, _ ...string) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	return nil, v.store.patch(patch)
}

func (s *store) get() (version string, bundles [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	return fmt.Sprint(s.version), append([][]byte{}, s.bundles...), s.fail
}

func (s *store) patch(patch []byte) error {
	if race := s.race; race != nil {
		s.race = nil
		race()
	}
	var operations []struct {
		Op, Path string
		Value    json.RawMessage
	}
	if err := json.Unmarshal(patch, &operations); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range operations {
		var index int
		switch {
		case one.Op == "test" && one.Path == "/metadata/resourceVersion":
			if string(one.Value) != fmt.Sprintf("%q", fmt.Sprint(s.version)) {
				return apierrors.NewInvalid(schema.GroupKind{}, "sluice", nil)
			}
		case one.Op == "add":
			if _, err := fmt.Sscanf(one.Path, "/webhooks/%d/clientConfig/caBundle", &index); err != nil {
				return err
			}
			if err := json.Unmarshal(one.Value, &s.bundles[index]); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s %s", one.Op, one.Path)
		}
	}
	s.version++
	s.patches++
	return nil
}

func (s *store) bundle(i int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bundles[i]
}

func newAuthority(t *testing.T) *authority.Authority {
	t.Helper()
	a, err := authority.Open(filepath.Join(t.TempDir(), "ca.pem"), []string{"sluice-server.sluice-system.svc"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// shake is what the API server does before it asks.
func shake(a *authority.Authority, bundle []byte) (serial string, err error) {
	near, far := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		server := tls.Server(far, a.TLS())
		_ = server.Handshake() // the client says what was wrong
		_ = far.Close()
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	client := tls.Client(near, &tls.Config{RootCAs: roots, ServerName: "sluice-server.sluice-system.svc"})
	err = client.Handshake()
	_ = near.Close()
	<-served
	if err != nil {
		return "", err
	}
	return client.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

func TestTheWebhookIsTrustedForElevenYearsThoughItsCertificatesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		s := &store{bundles: make([][]byte, 2)}
		keeper := &Keeper{API: s, Validating: []string{"sluice"}, CA: a.CA, Log: quiet}
		serials, authorities := make(map[string]bool), make(map[string]bool)
		for begin := time.Now(); time.Since(begin) < 11*365*24*time.Hour; time.Sleep(30 * 24 * time.Hour) {
			_, _ = shake(a, nil) // somebody connects: what is due is renewed
			if err := keeper.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range s.bundles {
				serial, err := shake(a, s.bundle(i))
				if err != nil {
					t.Fatalf("after %v, webhook %d: %v", time.Since(begin), i, err)
				}
				serials[serial] = true
			}
			authorities[string(a.CA())] = true
		}
		if len(authorities) < 2 || len(serials) < 40 {
			t.Errorf("%d authorities, %d certificates", len(authorities), len(serials))
		}
		if s.patches > len(authorities)+2 {
			t.Errorf("%d patches for %d authorities", s.patches, len(authorities))
		}
	})
}

func TestReplicasOfTwoAuthoritiesDoNotUndoOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newAuthority(t), newAuthority(t)
		s := &store{bundles: make([][]byte, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, a := range []*authority.Authority{one, two} {
			keeper := &Keeper{API: s, Validating: []string{"sluice"}, CA: a.CA, Log: quiet}
			running.Go(func() { keeper.Run(ctx) })
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, a := range []*authority.Authority{one, two} {
			if _, err := shake(a, s.bundle(0)); err != nil {
				t.Error(err)
			}
		}
		if s.patches != 2 {
			t.Errorf("%d patches", s.patches)
		}
		cancel()
		running.Wait()
	})
}

func TestAConfigurationThatWasAppliedAnewIsFilledInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		s := &store{bundles: make([][]byte, 1), fail: errTest}
		keeper := &Keeper{API: s, Validating: []string{"sluice"}, CA: a.CA, Log: quiet}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { keeper.Run(ctx) })
		time.Sleep(time.Minute)
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		for range 2 {
			time.Sleep(lookEvery)
			synctest.Wait()
			if _, err := shake(a, s.bundle(0)); err != nil {
				t.Error(err)
			}
			s.mu.Lock()
			s.bundles[0], s.version = []byte("nonsense"), s.version+1
			s.mu.Unlock()
		}
		cancel()
		running.Wait()
	})
}

func TestAConfigurationOfEitherKindIsKept(t *testing.T) {
	a := newAuthority(t)
	for kind, keeper := range map[string]*Keeper{"validating": {Validating: []string{"sluice"}}, "mutating": {Mutating: []string{"sluice"}}} {
		s := &store{bundles: make([][]byte, 2)}
		keeper.API, keeper.CA, keeper.Log = s, a.CA, quiet
		if err := keeper.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range s.bundles {
			if _, err := shake(a, s.bundle(i)); err != nil {
				t.Errorf("%s, webhook %d: %v", kind, i, err)
			}
		}
		s.fail = errTest
		if err := keeper.Look(t.Context()); err == nil || !strings.Contains(err.Error(), kind+" webhook configuration sluice: ") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestAConfigurationThatIsMissingIsLookedForLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{bundles: make([][]byte, 1), fail: errTest}
		keeper := &Keeper{API: s, Validating: []string{"sluice"}, CA: newAuthority(t).CA, Log: quiet}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { keeper.Run(ctx) })
		time.Sleep(time.Hour)
		synctest.Wait()
		s.mu.Lock()
		if want := 5 + int(time.Hour/lookEvery); s.looks > want || s.looks < want-5 {
			t.Errorf("looked for %d times in an hour, want %d", s.looks, want)
		}
		s.mu.Unlock()
		cancel()
		running.Wait()
	})
}

func TestAPatchIsMadeOfWhatIsThereNow(t *testing.T) {
	a := newAuthority(t)
	s := &store{bundles: make([][]byte, 1)}
	s.race = func() { s.mu.Lock(); s.version++; s.bundles = append(s.bundles, nil); s.mu.Unlock() }
	keeper := &Keeper{API: s, Validating: []string{"sluice"}, CA: a.CA, Log: quiet}
	if err := keeper.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if _, err := shake(a, s.bundle(i)); err != nil {
			t.Errorf("webhook %d: %v", i, err)
		}
	}
}

func TestABundleHoldsFewAuthorities(t *testing.T) {
	var bundle []byte
	var last []byte
	for range maxAuthorities + 3 {
		last = newAuthority(t).CA()
		bundle = withAuthority(bundle, last, time.Now())
	}
	if n := strings.Count(string(bundle), "BEGIN CERTIFICATE"); n != maxAuthorities || !strings.HasSuffix(string(bundle), string(last)) {
		t.Errorf("%d authorities", n)
	}
	if again := withAuthority(bundle, last, time.Now()); string(again) != string(bundle) {
		t.Error("it is changed although it has the authority")
	}
}
