package cluster

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"sluice.dev/sluice/internal/control/authority"
)

const (
	// AuthoritySecret is what the Secret is called that holds the certificate authority of
	// the servers.
	AuthoritySecret = "sluice-server-ca"
	// authorityKey is the member of it.
	authorityKey = "ca.pem"
	// vaultTimeout bounds one call.
	vaultTimeout = 10 * time.Second
)

// vault keeps the authority in a Secret.
type vault struct {
	client    kubernetes.Interface
	namespace string
}

// Vault returns where the servers of a namespace keep their authority.
func (c *Cluster) Vault(namespace string) authority.Vault { return vault{c.client, namespace} }

// Read implements authority.Vault.
func (v vault) Read() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), vaultTimeout)
	defer cancel()
	secret, err := v.client.CoreV1().Secrets(v.namespace).Get(ctx, AuthoritySecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, secret.Data[authorityKey]...), nil
}

// Create implements authority.Vault.
func (v vault) Create(content []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), vaultTimeout)
	defer cancel()
	_, err := v.client.CoreV1().Secrets(v.namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: AuthoritySecret},
		Data:       map[string][]byte{authorityKey: content},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return false, nil
	}
	return err == nil, err
}
