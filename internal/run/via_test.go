package run

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func environment(entries map[string]string) func(string) string {
	return func(name string) string { return entries[name] }
}

func TestTheProxyIsTheFlagsOrTheEnvironments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "login")
	if err := os.WriteFile(file, []byte("anna:pass:word\r\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text, file string
		env        map[string]string
		want       string
		login      string
		secure     bool
	}{
		{text: "http://proxy.corp.test:3128", want: "proxy proxy.corp.test:3128"},
		{text: "https://Proxy.Corp.Test/", want: "proxy proxy.corp.test:443", secure: true},
		{text: "proxy:3128", want: "proxy proxy:3128"},
		{text: "http://[fd00::1]:8080", want: "proxy [fd00::1]:8080"},
		{text: "http://10.0.0.1", file: file, want: "proxy 10.0.0.1:80", login: "anna:pass:word"},
		{env: map[string]string{"http_proxy": "http://c:1", "HTTPS_PROXY": "http://u:p%40ss@b:2", "ALL_PROXY": "http://a:3"}, want: "proxy b:2 (HTTPS_PROXY)", login: "u:p@ss"},
		{env: map[string]string{"https_proxy": "http://u:p@b:2", ViaVariable: "https://own:1"}, want: "proxy own:1 (SLUICE_VIA_PROXY)", secure: true},
		{env: map[string]string{"HTTP_PROXY": "u@b:2"}, file: file, want: "proxy b:2 (HTTP_PROXY)", login: "anna:pass:word"},
	} {
		v, err := ParseVia(c.text, c.file, environment(c.env))
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if v.String() != c.want || v.login != c.login || v.secure != c.secure || (c.file != "") != (v.file != "") {
			t.Errorf("%q becomes %q, login %q, TLS %v, file %q", c.text, v, v.login, v.secure, v.file)
		}
	}
}

func TestAProxyThatIsWrongIsRefusedWithoutItsSecrets(t *testing.T) {
	folder := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		text, file string
		env        map[string]string
		says       string
	}{
		{text: "http://user:geheim@p:1", says: "--via-proxy takes no credentials"},
		{says: "none of SLUICE_VIA_PROXY, https_proxy, HTTPS_PROXY,"},
		{env: map[string]string{"ALL_PROXY": "socks5://user:geheim@p:1"}, says: `ALL_PROXY: a proxy of "socks5" is not supported: http and https are`},
		{env: map[string]string{"https_proxy": "http://user:geheim@p:x"}, says: "https_proxy: not a valid URL"},
		{env: map[string]string{"https_proxy": "http://user:ge%0aheim@p:1"}, says: "control character"},
		{env: map[string]string{"https_proxy": "http://:geheim@p:1"}, says: "not user:password"},
		{text: "http://p:0", says: "no valid HOST"},
		{text: "http://p:70000", says: "no valid HOST"},
		{text: "http://", says: "no valid HOST"},
		{text: "http://p:1/path", says: "no path"},
		{text: "http://p:1?x", says: "no path"},
		{text: "http://p:1", file: filepath.Join(folder, "none"), says: "--via-proxy-credentials: open"},
		{text: "http://p:1", file: folder, says: "not a regular file"},
		{text: "http://p:1", file: file("open", "user:geheim", 0o644), says: "everybody may read or change"},
		{text: "http://p:1", file: file("long", strings.Repeat("geheim:", 1000), 0o600), says: "larger than 4096 bytes"},
		{text: "http://p:1", file: file("lines", "user:geheim\nmore\n", 0o600), says: "control character; write user:password in one line"},
		{text: "http://p:1", file: file("bare", "geheim", 0o600), says: "not user:password"},
	} {
		v, err := ParseVia(c.text, c.file, environment(c.env))
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q, %v: %v, %v; want an error that says %q and no secret", c.text, c.env, v, err, c.says)
		}
	}
}

func TestWhatNOPROXYNamesGoesDirectly(t *testing.T) {
	v, err := ParseVia("http://p:3128", "", environment(map[string]string{"NO_PROXY": "git.corp.test,.lan.test,10.0.0.0/8,db.corp.test:5432"}))
	if err != nil {
		t.Fatal(err)
	}
	direct := v.direct()
	for host, port := range map[string]uint16{"git.corp.test": 22, "a.lan.test": 443, "10.1.2.3": 80, "db.corp.test": 5432, "localhost": 8080, "127.0.0.1": 80, "host.sluice.internal": 8080, "::1": 443} {
		if !direct(host, port) {
			t.Errorf("%s:%d goes to the proxy", host, port)
		}
	}
	for host, port := range map[string]uint16{"www.corp.test": 443, "nogit.corp.test.evil.test": 22, "db.corp.test": 443, "11.0.0.1": 80, "lan.test.evil.test": 443} {
		if direct(host, port) {
			t.Errorf("%s:%d goes directly", host, port)
		}
	}
}

func TestProxiesOfTheEnvironmentAreTakenOutAndNamed(t *testing.T) {
	rest, named := withoutProxies([]string{
		"PATH=/bin", "http_proxy=http://u:p@x", "HTTP_PROXY=", "No_Proxy=a", "ALL_PROXY=socks5://x", "NPM_CONFIG_HTTPS_PROXY=x", "npm_config_registry=https://r",
		"CARGO_HTTP_PROXY=x", "GRPC_PROXY=x", "MY_PROXY_NAME=kept", "REVERSE_PROXY=kept", "SLUICE_VIA_PROXY=http://u:p@x", "LOCALDOMAIN=corp.example.org",
		"JAVA_TOOL_OPTIONS=-Dhttp.proxyHost=x -Dhttps.proxyPort=1 -Dhttp.nonProxyHosts=a|b -DsocksProxyHost=y", "MAVEN_OPTS=-Da=b -Dhttp.proxyPassword=p -Xmx1g", "GRADLE_OPTS=-Xmx2g",
	})
	want := []string{"PATH=/bin", "npm_config_registry=https://r", "MY_PROXY_NAME=kept", "REVERSE_PROXY=kept", "JAVA_TOOL_OPTIONS=", "MAVEN_OPTS=-Da=b -Xmx1g", "GRADLE_OPTS=-Xmx2g"}
	if !slices.Equal(rest, want) {
		t.Errorf("the command gets %q, want %q", rest, want)
	}
	if got := listed(named); got != "ALL_PROXY, CARGO_HTTP_PROXY, GRPC_PROXY, JAVA_TOOL_OPTIONS (its proxy), MAVEN_OPTS (its proxy), NPM_CONFIG_HTTPS_PROXY, No_Proxy and http_proxy" {
		t.Errorf("named are %q", got)
	}
	if got := sayProxies(&Config{proxies: []string{"HTTP_PROXY"}, Attach: "x"}); got != "HTTP_PROXY is not passed in: the command reaches what the rules allow without" {
		t.Errorf("with the mesh it says %q", got)
	}
}
