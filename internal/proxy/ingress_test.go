package proxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/record"
)

// rules makes our workload the ingress, with these objects as the only ones.
func (m *meshOf) rules(text string) {
	m.t.Helper()
	m.labels = map[string]string{"istio": "ingress"}
	objects, err := api.Decode("rules.yaml", strings.NewReader(text))
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range objects {
		objects[i].SetNamespace("default")
		if problems := api.Validate(&objects[i]); problems != nil {
			m.t.Fatal(problems)
		}
	}
	m.objects = objects
	m.allow()
}

// shop is an Ingress by whose rules "/" of shop.example.com leads to details, and its /admin
// to reviews.
const shop = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: details, port: {number: 9080}}}}
      - {path: /admin, pathType: Prefix, backend: {service: {name: reviews, port: {number: 9080}}}}
`

// What comes in is led by its host and path, and no spelling of either gets to another service
// or to none that would be led: the record says which rule it was.
func TestAnIngressLeadsByHostAndPathWhateverTheirSpelling(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	m.service("reviews", func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nadmin")
	})
	m.rules(shop)
	dial := m.ingressTo()
	for _, x := range []struct {
		request, body, rule, reason string
		status                      int
	}{
		{"GET /books HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "host: shop.example.com", "ingress/default/shop", "", 200},
		{"GET /books HTTP/1.1\r\nHost: SHOP.example.com.:8080\r\n\r\n", "host: shop.example.com:8080", "ingress/default/shop", "", 200},
		{"GET http://Shop.Example.com/books HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "host: shop.example.com", "ingress/default/shop", "", 200},
		{"GET /admin HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "admin", "ingress/default/shop", "", 200},
		{"GET /admin/x?y=/../ HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "admin", "ingress/default/shop", "", 200},
		{"GET /administrator HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "GET /administrator", "ingress/default/shop", "", 200},
		{"GET /x/../admin HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "", "", "no-route", 404},
		{"GET //admin HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "", "", "no-route", 404},
		{"GET /x%2f..%2fadmin HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "", "", "no-route", 404},
		{"GET /%61dmin HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", "", "", "no-route", 404},
		{"GET / HTTP/1.1\r\nHost: other.example.com\r\n\r\n", "", "", "no-route", 404},
		{"GET / HTTP/1.1\r\nHost: a.shop.example.com\r\n\r\n", "", "", "no-route", 404},
		{"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "", "", "no-route", 404},
		{"GET / HTTP/1.1\r\nHost: shop..example.com\r\n\r\n", "", "", "bad-host", 403},
		{"GET / HTTP/1.0\r\n\r\n", "", "", "no-route", 404},
	} {
		resp, body := sends(t, dial(), x.request)
		if resp.StatusCode != x.status || resp.Header.Get("x-sluice-reason") != x.reason || !strings.Contains(strings.ToLower(body), strings.ToLower(x.body)) {
			t.Errorf("%q: %d %s %q", x.request, resp.StatusCode, resp.Header.Get("x-sluice-reason"), body)
		}
		if r := m.lastFlow(); r.Rule != x.rule || string(r.Reason) != x.reason || r.Direction != record.Ingress {
			t.Errorf("%q: the record says %s %s %s", x.request, r.Rule, r.Reason, r.Detail)
		}
	}
}

// The route rules of the service behind hold for what comes in, and the record names both.
func TestARouteRuleHoldsBehindARuleOfTheIngress(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	m.rules(shop + `
---
kind: RouteRule
metadata: {name: in}
spec:
  destination: {name: details}
  match: {source: {name: istio-ingress, namespace: istio-system}, request: {headers: {authority: {exact: shop.example.com}}}}
  rewrite: {uri: /new}
`)
	dial := m.ingressTo()
	_, body := sends(t, dial(), "GET /old HTTP/1.1\r\nHost: Shop.example.com\r\n\r\n")
	r := m.lastFlow()
	if !strings.HasPrefix(body, "GET /new ") || r.Rule != "ingress/default/shop" || r.Route != "route-rule/default/in" || r.Path != "/old" {
		t.Errorf("%q; the record says %s, %s, %s", body, r.Rule, r.Route, r.Path)
	}
}

// A request that a rule has let in lives as long as that rule, whatever becomes of others.
func TestWhatComesInEndsWithTheRuleThatLetItIn(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	begun := make(chan struct{}, 9)
	m.service("details", func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nbegun\n")
		begun <- struct{}{}
		io.Copy(io.Discard, c)
	})
	m.rules(shop)
	dial := m.ingressTo()
	c := dial()
	io.WriteString(c, "GET /stream HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
	reader := bufio.NewReader(c)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(line) == "begun" || strings.HasSuffix(line, "begun\n") {
			break
		}
	}
	<-begun
	m.rules(shop + "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: other}\nspec: {defaultBackend: {service: {name: details, port: {number: 9080}}}}\n")
	if live := m.proxy.Live(9, record.Filter{}); len(live) != 1 {
		t.Fatalf("after another Ingress came: %+v", live)
	}
	m.rules(strings.Replace(shop, "path: /, pathType", "path: /else, pathType", 1))
	if err := ended(c); err != nil {
		t.Error(err)
	}
	if r := m.lastFlow(); r.Reason != "no-route" {
		t.Errorf("the record says %s %s", r.Reason, r.Detail)
	}
}

// A connection that goes on is decided about anew with each request.
func TestAKeptConnectionFollowsTheRulesOfTheMoment(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", tellHead)
	m.rules(shop)
	c := m.ingressTo()()
	r := bufio.NewReader(c)
	status := func() int {
		resp := exchange(t, c, r, "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	if got := status(); got != 200 {
		t.Fatalf("%d", got)
	}
	m.rules(shop + "---\nkind: IngressRule\nmetadata: {name: first}\nspec: {port: 80, destination: {name: nobody}, destinationPort: 1}\n")
	if got := status(); got != 503 {
		t.Errorf("once a rule before it leads to nobody: %d", got)
	}
}
