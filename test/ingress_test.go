package test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// A route rule from istio-ingress holds for what comes in from outside the mesh, and
// for nobody inside.
func TestARouteRuleFromTheIngressHoldsForWhatComesIn(t *testing.T) {
	at := freePort(t)
	m := startMachinery(t, mesh.User{Name: "user", UID: -1}, "--ingress", at, "--ingress-route", "/health=details:9080")
	m.Background(t, nil, "sluice", "run", "--service", "details", "--version", "v1", "--listen", "9080", "--", m.Bin+"/bookinfo", "details", "9080")
	inside := m.StartWorkload(t, "--service", "caller")
	client := &http.Client{Timeout: 10 * time.Second}
	comesIn := func(want int) {
		t.Helper()
		mesh.Eventually(t, func() string {
			response, err := client.Get("http://" + at + "/health")
			if err != nil {
				return err.Error()
			}
			response.Body.Close()
			if response.StatusCode != want {
				return fmt.Sprintf("from outside: %d, want %d", response.StatusCode, want)
			}
			return ""
		})
		if a := inside.Do(t, agent.Ask{Do: agent.Get, URL: "http://details:9080/health"}); a.Code != 200 {
			t.Errorf("from inside, while outside gets %d: %d %s %s", want, a.Code, a.Body, a.Error)
		}
	}
	rule := func(version string) string {
		return `kind: RouteRule
metadata: {name: ingress}
spec:
  destination: {name: details}
  match: {source: {name: istio-ingress, namespace: istio-system, labels: {istio: ingress}}}
  route: [{labels: {version: ` + version + `}}]
`
	}
	comesIn(200)
	m.create(t, rule("v9")) // whom nobody is
	comesIn(503)
	if r := m.Run(t, rule("v1"), "sluice", "replace", "-f", "-"); r.Code != 0 || r.Stderr != "" {
		t.Errorf("replace: exit %d, %s", r.Code, r.Stderr)
	}
	comesIn(200)
}

// An ingress whose proxy has no server answers at once, and says so in its log once.
func TestAnIngressWithoutASnapshotAnswersThatThereIsNone(t *testing.T) {
	at := freePort(t)
	m := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})
	proxy := m.StartProxy(t, nil, "--ingress", at, "--ingress-route", "/health=details:9080")
	client := &http.Client{Timeout: 10 * time.Second}
	get := func() string {
		response, err := client.Get("http://" + at + "/health")
		if err != nil {
			return err.Error()
		}
		response.Body.Close()
		return fmt.Sprint(response.StatusCode, " ", response.Header.Get("x-sluice-reason"))
	}
	const without = "503 no-snapshot"
	for range 20 {
		if got := get(); got != without {
			t.Fatalf("without a server: %s, want %s", got, without)
		}
	}
	const line = "the ingress answers 503 until the server sends it rules"
	mesh.Eventually(t, func() string {
		if !strings.Contains(proxy.Said(), line) {
			return "the log does not say it:\n" + proxy.Said()
		}
		return ""
	})
	if got := get(); got != without {
		t.Errorf("after the first attempt to join: %s, want %s", got, without)
	}
	m.StartServer(t)
	m.Background(t, nil, "sluice", "run", "--service", "details", "--version", "v1", "--listen", "9080", "--", m.Bin+"/bookinfo", "details", "9080")
	mesh.Eventually(t, func() string {
		if got := get(); got != "200 " {
			return "with a server: " + got
		}
		return ""
	})
	if said := proxy.Said(); strings.Count(said, line) != 1 || !strings.Contains(said, "the ingress has its rules") || !strings.Contains(said, "istio-ingress/1") {
		t.Errorf("the log says:\n%s", said)
	}
}

// An Ingress of Kubernetes, as the Bookinfo of Istio 0.5 had one, leads what comes in to its
// service; it is changed and deleted as any rule is, and the record names it.
func TestAnIngressLeadsWhatComesIn(t *testing.T) {
	at := freePort(t)
	m := startMachinery(t, mesh.User{Name: "user", UID: -1}, "--ingress", at)
	m.Background(t, nil, "sluice", "run", "--service", "details", "--version", "v1", "--listen", "9080", "--", m.Bin+"/bookinfo", "details", "9080")
	client := &http.Client{Timeout: 10 * time.Second}
	get := func(host, path string) int {
		t.Helper()
		request, err := http.NewRequest("GET", "http://"+at+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		response, err := client.Do(request)
		if err != nil {
			return 0
		}
		response.Body.Close()
		return response.StatusCode
	}
	becomes := func(host, path string, want int) {
		t.Helper()
		mesh.Eventually(t, func() string {
			if got := get(host, path); got != want {
				return fmt.Sprintf("%s%s: %d, want %d", host, path, got, want)
			}
			return ""
		})
	}
	becomes("", "/health", 404)
	old := func(path string) string {
		return `apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: gateway, annotations: {kubernetes.io/ingress.class: istio}}
spec:
  rules:
  - http:
      paths:
      - {path: ` + path + `, backend: {serviceName: details, servicePort: 9080}}
`
	}
	r := m.Run(t, old("/health"), "sluice", "create", "-f", "-")
	if r.Code != 0 || !strings.Contains(r.Stdout, "Created config ingress/default/gateway at revision") || !strings.Contains(r.Stderr, "upgraded to networking.k8s.io/v1") {
		t.Fatalf("create: %d %s %s", r.Code, r.Stdout, r.Stderr)
	}
	becomes("", "/health", 200)
	if got := get("", "/details/0"); got != 404 {
		t.Errorf("another path: %d", got)
	}
	if r := m.Run(t, old("/details/.*"), "sluice", "replace", "-f", "-"); r.Code != 0 {
		t.Errorf("replace: %d %s", r.Code, r.Stderr)
	}
	becomes("www.example.com", "/details/0", 200)
	becomes("", "/health", 404)
	m.create(t, `kind: IngressRule
metadata: {name: first}
spec: {port: 80, match: {request: {headers: {authority: {exact: www.example.com}}}}, destination: {name: nobody}, destinationPort: 1}
`)
	becomes("www.example.com", "/details/0", 503)
	becomes("", "/details/0", 200)
	flows := m.Run(t, "", "sluice", "flows", "--rule", "ingress/default/gateway")
	if flows.Code != 0 || !strings.Contains(flows.Stdout, "istio-ingress") {
		t.Errorf("flows: %d %s %s", flows.Code, flows.Stdout, flows.Stderr)
	}
	why := m.Run(t, "", "sluice", "why", "--from", "istio-ingress/1", "http://foo.example.com/details/1")
	if why.Code != 0 || !strings.Contains(why.Stdout, "ingress/default/gateway leads it to details.default.svc.cluster.local") {
		t.Errorf("why: %d %s %s", why.Code, why.Stdout, why.Stderr)
	}
	if why := m.Run(t, "", "sluice", "why", "--from", "istio-ingress/1", "http://foo.example.com/health"); why.Code != 3 || !strings.Contains(why.Stdout, "no-route") {
		t.Errorf("why of what is not led: %d %s %s", why.Code, why.Stdout, why.Stderr)
	}
	for _, name := range []string{"ingress gateway", "ingressrule first"} {
		words := strings.Fields(name)
		if r := m.Run(t, "", "sluice", "delete", words[0], words[1], "-n", "default"); r.Code != 0 {
			t.Errorf("delete %s: %d %s", name, r.Code, r.Stderr)
		}
	}
	becomes("", "/details/0", 404)
}

// TLS at the ingress, with real processes: by the certificate of the name, in both versions of
// HTTP, renewed while it runs.
func TestAnIngressTakesTLS(t *testing.T) {
	at, secure, folder := freePort(t), freePort(t), t.TempDir()
	ca := func() (roots *x509.CertPool) {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		of := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
			DNSNames: []string{"shop.example.com"}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		secret := filepath.Join(folder, "default", "shop")
		if err := os.MkdirAll(secret, 0o755); err != nil {
			t.Fatal(err)
		}
		roots = x509.NewCertPool()
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		roots.AppendCertsFromPEM(text)
		for name, text := range map[string][]byte{"tls.crt": text, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})} {
			next := filepath.Join(secret, name+".next")
			if err := os.WriteFile(next, text, 0o644); err != nil { // as kubelet has them
				t.Fatal(err)
			}
			if err := os.Rename(next, filepath.Join(secret, name)); err != nil {
				t.Fatal(err)
			}
		}
		return roots
	}
	roots := ca()
	m := startMachinery(t, mesh.User{Name: "user", UID: -1}, "--ingress", at, "--ingress-tls", secure, "--ingress-certs", folder)
	m.Background(t, nil, "sluice", "run", "--service", "details", "--version", "v1", "--listen", "9080", "--", m.Bin+"/bookinfo", "details", "9080")
	m.create(t, `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, annotations: {ingress.sluice.dev/https-redirect: "true"}}
spec:
  tls: [{hosts: [shop.example.com], secretName: shop}]
  rules:
  - {host: shop.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: details, port: {number: 9080}}}}]}}
`)
	get := func(roots *x509.CertPool, name string, two bool) string {
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}, ForceAttemptHTTP2: two,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", secure)
			},
		}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get("https://shop.example.com/health")
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		io.Copy(io.Discard, response.Body)
		return fmt.Sprint(response.Proto, " ", response.StatusCode)
	}
	becomes := func(roots *x509.CertPool, name string, two bool, want string) {
		t.Helper()
		mesh.Eventually(t, func() string {
			if got := get(roots, name, two); !strings.Contains(got, want) {
				return fmt.Sprintf("%s, want %s", got, want)
			}
			return ""
		})
	}
	becomes(roots, "", true, "HTTP/2.0 200")
	becomes(roots, "", false, "HTTP/1.1 200")
	becomes(roots, "other.example.com", true, "unrecognized name")
	renewed := ca()
	becomes(renewed, "", true, "HTTP/2.0 200")
	if got := get(roots, "", true); !strings.Contains(got, "certificate") {
		t.Errorf("with the roots of before: %s", got)
	}
	plain := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	request, err := http.NewRequest("GET", "http://"+at+"/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "shop.example.com"
	response, err := plain.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if _, port, _ := net.SplitHostPort(secure); response.StatusCode != 301 || response.Header.Get("location") != "https://shop.example.com:"+port+"/health" {
		t.Errorf("without TLS: %s to %s", response.Status, response.Header.Get("location"))
	}
	flows := m.Run(t, "", "sluice", "flows", "-A", "-o", "json")
	if !strings.Contains(flows.Stdout, `"sni":"other.example.com"`) || !strings.Contains(flows.Stdout, `"reason":"no-certificate"`) || strings.Contains(flows.Stdout, "PRIVATE") {
		t.Errorf("flows do not tell of the name without a certificate: %s", flows.Stdout)
	}
}
