package advice

import (
	"strings"
	"testing"

	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
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

// A rule that leads to another port outside has no short form, and its policy says where.
func TestWhereAPortLeadsOutsideIsSaid(t *testing.T) {
	r := rule("r", "a.example", "80/http")
	r.Ports[0].Upstream = policy.Upstream{Port: 443, Protocol: policy.ProtocolHTTPS}
	if form := allowForm(&r); form != "" {
		t.Errorf("--allow %s says less than the rule", form)
	}
	object, ok := asPolicy(&r, &Options{Namespace: "default"})
	if !ok {
		t.Fatal("no policy says it")
	}
	if port := object.Spec.(*v1alpha1.EgressPolicySpec).To.Ports[0]; port.Upstream == nil || *port.Upstream != (v1alpha1.UpstreamPort{Port: 443, Protocol: "https"}) {
		t.Errorf("%+v", port)
	}
	s := &wire.Snapshot{Mesh: &wire.Mesh{OutboundDefault: "Deny"}, Directory: &wire.Directory{Domain: "cluster.local"}, Policies: []*wire.Policy{{Rules: []policy.Rule{r}}}}
	for port, want := range map[policy.Upstream]string{
		{Port: 443, Protocol: policy.ProtocolHTTPS}: "the request is sent to port 443 over TLS that Sluice makes and verifies",
		{Port: 8080, Protocol: policy.ProtocolHTTP}: "the request is forwarded as plain HTTP to port 8080",
	} {
		s.Policies[0].Rules[0].Ports = []policy.Port{{Port: 80, Protocol: policy.ProtocolHTTP, Upstream: port}}
		q, err := Parse("http://a.example/", "")
		if err != nil {
			t.Fatal(err)
		}
		if e, err := Answer(q, s, wire.Workload{Namespace: "default"}); err != nil || e.Verdict != "allow" || !strings.Contains(e.Sentence, want) {
			t.Errorf("%+v, %v, want %s", e, err, want)
		}
	}
}
