package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clients "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
)

const (
	// lookEvery is how often the configurations are looked at: after this time at most they
	// are right again where somebody applied the manifest anew, or the authority changed.
	lookEvery = 30 * time.Second
	// lookSoon is how long after a failure they are looked at again; after each further one
	// it is twice as long, and lookEvery in the end.
	lookSoon = time.Second
	// lookTime bounds one look.
	lookTime = 10 * time.Second
	// maxAuthorities bounds how many authorities a configuration holds; the oldest go first.
	maxAuthorities = 4
)

// Configurations is what a keeper reads and patches of a cluster; the cluster's client is
// one.
type Configurations interface {
	ValidatingWebhookConfigurations() clients.ValidatingWebhookConfigurationInterface
	MutatingWebhookConfigurations() clients.MutatingWebhookConfigurationInterface
}

// Keeper keeps a certificate authority in the caBundle of each webhook of named
// configurations. Replicas whose authorities differ for a while do not undo one another:
// each adds its own, and what is left behind goes when it expired.
type Keeper struct {
	API        Configurations
	Validating []string      // names of configurations
	Mutating   []string      // the same, of the other kind
	CA         func() []byte // the authority's certificate now, in PEM
	Log        *slog.Logger
}

// Run keeps them until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	said := "" // last, so that a cluster without the configuration is said once
	soon := lookSoon
	for {
		pause := lookEvery
		if err := k.Look(ctx); err != nil && ctx.Err() == nil {
			pause, soon = soon, min(2*soon, lookEvery)
			if err.Error() != said {
				k.Log.Warn("the configuration of a webhook is not kept", "error", err)
			}
			said = err.Error()
		} else {
			said, soon = "", lookSoon
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// Look brings each configuration to the authority of now.
func (k *Keeper) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var failed []error
	for _, name := range k.Validating {
		api := k.API.ValidatingWebhookConfigurations()
		failed = append(failed, k.keep("validating webhook configuration "+name, func() (bundles, error) {
			found, err := api.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return bundles{}, err
			}
			b := bundles{version: found.ResourceVersion}
			for i := range found.Webhooks {
				b.add(&found.Webhooks[i].ClientConfig)
			}
			return b, nil
		}, func(patch []byte) error {
			_, err := api.Patch(ctx, name, types.JSONPatchType, patch, patchOptions)
			return err
		}))
	}
	for _, name := range k.Mutating {
		api := k.API.MutatingWebhookConfigurations()
		failed = append(failed, k.keep("mutating webhook configuration "+name, func() (bundles, error) {
			found, err := api.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return bundles{}, err
			}
			b := bundles{version: found.ResourceVersion}
			for i := range found.Webhooks {
				b.add(&found.Webhooks[i].ClientConfig)
			}
			return b, nil
		}, func(patch []byte) error {
			_, err := api.Patch(ctx, name, types.JSONPatchType, patch, patchOptions)
			return err
		}))
	}
	return errors.Join(failed...)
}

var patchOptions = metav1.PatchOptions{FieldManager: "sluice-server"}

// bundles is the caBundle of each webhook of one configuration, in order.
type bundles struct {
	version string
	all     [][]byte
}

func (b *bundles) add(client *admissionregistrationv1.WebhookClientConfig) {
	b.all = append(b.all, client.CABundle)
}

// operation is one of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

func (k *Keeper) keep(what string, get func() (bundles, error), patch func([]byte) error) error {
	var err error
	for range 3 { // another replica may be patching
		err = k.keepOnce(get, patch)
		if !apierrors.IsConflict(err) && !apierrors.IsInvalid(err) {
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return nil
		}
	}
	return fmt.Errorf("%s: somebody else keeps changing it: %w", what, err)
}

func (k *Keeper) keepOnce(get func() (bundles, error), patch func([]byte) error) error {
	have, err := get()
	if err != nil {
		return err
	}
	// The version first: a webhook that was added or moved meanwhile has another index.
	operations := []operation{{"test", "/metadata/resourceVersion", have.version}}
	now := time.Now()
	for i, bundle := range have.all {
		if want := withAuthority(bundle, k.CA(), now); !bytes.Equal(want, bundle) {
			operations = append(operations, operation{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), want})
		}
	}
	if len(operations) == 1 {
		return nil
	}
	body, err := json.Marshal(operations)
	if err != nil {
		return err
	}
	return patch(body)
}

// withAuthority returns a bundle with an authority at its end, without those that expired
// and without what is not a certificate. A bundle that has it stays as it is.
func withAuthority(bundle, authority []byte, now time.Time) []byte {
	own, _ := pem.Decode(authority)
	if own == nil {
		return bundle
	}
	var kept [][]byte
	rest := bundle
	stays := true
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil || !now.Before(certificate.NotAfter):
			stays = false
		case bytes.Equal(block.Bytes, own.Bytes) && stays:
			return bundle
		case !bytes.Equal(block.Bytes, own.Bytes):
			kept = append(kept, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}))
		}
	}
	kept = append(kept, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Bytes}))
	return bytes.Join(kept[max(0, len(kept)-maxAuthorities):], nil)
}
