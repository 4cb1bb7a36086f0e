package server

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"sluice.dev/sluice/internal/control/kubeapi"
)

// members starts an etcd of three members, and returns their URLs and what kills one.
func members(t *testing.T) (urls []string, kill func(int)) {
	t.Helper()
	var peers, clients []url.URL
	var initial []string
	for i := range 3 {
		peers, clients = append(peers, freeURL(t)), append(clients, freeURL(t))
		initial = append(initial, fmt.Sprintf("m%d=%s", i, &peers[i]))
		urls = append(urls, clients[i].String())
	}
	started, ends := make([]*embed.Etcd, 3), make([]func(), 3)
	for i := range 3 {
		c := embed.NewConfig()
		c.Name, c.Dir, c.LogLevel, c.UnsafeNoFsync = fmt.Sprintf("m%d", i), t.TempDir(), "fatal", true
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peers[i]}, []url.URL{peers[i]}
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{clients[i]}, []url.URL{clients[i]}
		c.InitialCluster = strings.Join(initial, ",")
		member, err := embed.StartEtcd(c)
		if err != nil {
			t.Fatal(err)
		}
		started[i], ends[i] = member, sync.OnceFunc(member.Close)
		t.Cleanup(ends[i])
	}
	for _, member := range started {
		select {
		case <-member.Server.ReadyNotify():
		case <-time.After(time.Minute):
			t.Fatal("etcd is not ready")
		}
	}
	return urls, func(i int) {
		started[i].Server.HardStop() // no leadership is handed over
		ends[i]()
	}
}

func freeURL(t *testing.T) url.URL {
	t.Helper()
	return url.URL{Scheme: "http", Host: freePort(t)}
}

func TestServersShareTheRulesOfAnEtcdOfWhichAMemberIsKilled(t *testing.T) {
	// The first server of a process says where klog's lines go, to which the members of
	// this test write too.
	before, err := start(t, config(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Stop(); err != nil {
		t.Fatal(err)
	}
	urls, kill := members(t)
	first, second := config(t), config(t)
	first.Etcd, second.Etcd = &kubeapi.External{Servers: urls}, &kubeapi.External{Servers: urls}
	one, err := start(t, first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, second); err != nil {
		t.Fatal(err)
	}
	programmed := func(c Config, name string) func() bool {
		return func() bool { return conditions(t, c, egressRules+"/"+name)["Programmed"].Status == "True" }
	}
	create(t, first, "before", "*.before.example.com")
	waitFor(t, "the second server to show the rule, and its status", programmed(second, "before"))
	kill(0)
	waitFor(t, "a rule to be written without a member", func() bool {
		code, _ := ask(t, second, "POST", egressRules, `{"apiVersion":"config.istio.io/v1alpha2","kind":"EgressRule","metadata":{"name":"after"},"spec":{"destination":{"service":"*.after.example.com"},"ports":[{"port":443,"protocol":"https"}]}}`)
		return code == 201 || code == 409
	})
	waitFor(t, "the first server to show it", programmed(first, "after"))
	if err := one.Stop(); err != nil {
		t.Fatal(err)
	}
	create(t, second, "last", "*.last.example.com")
	waitFor(t, "the other server to write statuses", programmed(second, "last"))
	for _, name := range []string{"before", "after"} {
		if code, answer := ask(t, second, "GET", egressRules+"/"+name, ""); code != 200 {
			t.Errorf("%s: %d %s", name, code, answer)
		}
	}
}

func TestWhatIsNotAnEtcdIsRefusedBeforeItIsDialled(t *testing.T) {
	for _, external := range []kubeapi.External{
		{}, {Servers: []string{"192.0.2.1:2379"}}, {Servers: []string{"https://192.0.2.1"}}, {Servers: []string{"https://192.0.2.1:1", "http://192.0.2.2:1"}},
		{Servers: []string{"http://192.0.2.1:1"}, CAFile: "ca.pem"}, {Servers: []string{"https://192.0.2.1:1"}, CertFile: "cert.pem"}, {Servers: make([]string, 17)},
		{Servers: []string{"http://user@192.0.2.1:1"}}, {Servers: []string{"http://192.0.2.1:1/path"}},
	} {
		if err := external.Check(); err == nil {
			t.Errorf("%+v is taken", external)
		}
	}
}

// freePort returns an address on loopback that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
