package advice

import (
	"testing"

	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/policy"
)

// A rule of another namespace shows a certificate of that namespace, which no policy of
// ours can name.
func TestAPolicyNamesCertificatesOfItsOwnNamespaceAlone(t *testing.T) {
	r := rule("r", "a.example", "443/https")
	r.TLS = policy.TLS{Mode: policy.TLSOriginate, MinVersion: policy.TLS13, ClientCertificate: policy.ClientCertificate{Namespace: "default", CertFile: "a.pem", KeyFile: "a.key"}}
	if _, ok := asPolicy(&r, &Options{Namespace: "team"}); ok {
		t.Error("a policy of another namespace says it")
	}
	object, ok := asPolicy(&r, &Options{Namespace: "default"})
	if !ok {
		t.Fatal("no policy says it")
	}
	got := object.Spec.(*v1alpha1.EgressPolicySpec).TLS
	if got.MinVersion != "1.3" || got.ClientCertificate == nil || *got.ClientCertificate != (v1alpha1.ClientCertificate{CertFile: "a.pem", KeyFile: "a.key"}) {
		t.Errorf("%+v", got)
	}
}
