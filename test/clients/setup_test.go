package clients

import (
	"os"
	"path/filepath"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// setup starts the servers of a row and puts what is there before its line is typed
// into the folder dir of p's user.
type setup func(t *testing.T, w *world, p *mesh.Place, dir string)

// setups are those of the rows that need one, by name.
func setups() map[string]setup {
	put := func(content, name string) setup {
		return func(t *testing.T, w *world, p *mesh.Place, dir string) {
			w.write(t, p, filepath.Join(dir, name), content, 0o644)
		}
	}
	server := func(start func(*world, *testing.T)) setup {
		return func(t *testing.T, w *world, _ *mesh.Place, _ string) { start(w, t) }
	}
	both := func(all ...setup) setup {
		return func(t *testing.T, w *world, p *mesh.Place, dir string) {
			for _, one := range all {
				one(t, w, p, dir)
			}
		}
	}
	ssh := func(name string) setup {
		return func(t *testing.T, w *world, p *mesh.Place, dir string) { w.sshConfig(t, p, dir, name) }
	}
	return map[string]setup{
		"Java":     both(javaTrust, put(javaGet, "Get.java")),
		"Chromium": chromiumTrust,

		"ssh":          both(func(t *testing.T, w *world, _ *mesh.Place, _ string) { w.sshd(t, "shell.example.com", "") }, ssh("shell.example.com")),
		"git over ssh": both(server((*world).githubSSH), ssh("github.com")),
		"git":          server((*world).github),

		"psql":               both(server((*world).postgres), caFile),
		"mysql":              server((*world).mariadb),
		"redis-cli":          server((*world).redis),
		"redis-cli over TLS": both(server((*world).redis), caFile),
		"nc in a loop":       server((*world).redis),
		"ldapsearch":         server((*world).slapd),

		"SMTP with STARTTLS": both(server((*world).smtp), put("Subject: hello\r\n\r\nhello\r\n", "mail.txt")),
		"AMQP (pika)":        both(server((*world).rabbitmq), put(pikaHello, "queue_hello.py")),

		"pip": server((*world).pypi),
		"npm": server((*world).npm),
		"cargo": both(server((*world).crates), func(t *testing.T, w *world, p *mesh.Place, dir string) {
			w.write(t, p, filepath.Join(dir, "Cargo.toml"), "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nhello-sluice = \"1\"\n", 0o644)
			if err := os.Mkdir(filepath.Join(dir, "src"), 0o755); err != nil {
				t.Fatal(err)
			}
			w.write(t, p, filepath.Join(dir, "src", "main.rs"), "fn main() {}\n", 0o644)
		}),
		"go":    both(server((*world).goProxy), put("module example.com/app\n\ngo 1.21\n", "go.mod")),
		"mvn":   both(server((*world).maven), javaTrust, put(mavenChild, "pom.xml"), mavenHome),
		"gem":   server((*world).gems),
		"apt":   both(server((*world).debian), aptFolder),
		"crane": server((*world).docker),
	}
}

const javaGet = `class Get {
	public static void main(String[] a) throws Exception {
		try (var in = new java.net.URL(a[0]).openStream()) { in.transferTo(System.out); }
	}
}
`

const pikaHello = `import pika, sys
c = pika.BlockingConnection(pika.ConnectionParameters(sys.argv[1])).channel()
c.queue_declare("hello", auto_delete=True)
c.basic_publish("", "hello", b"hello by AMQP")
for _, _, body in c.consume("hello", auto_ack=True):
    print("got", body.decode())
    break
`

const mavenChild = `<project>
  <modelVersion>4.0.0</modelVersion>
  <parent><groupId>org.example</groupId><artifactId>parent</artifactId><version>1.0</version></parent>
  <artifactId>app</artifactId>
  <packaging>pom</packaging>
  <build><extensions><extension><groupId>org.example</groupId><artifactId>hello</artifactId><version>1.0</version></extension></extensions></build>
</project>
`

// caFile puts the CA beside the command.
func caFile(t *testing.T, w *world, p *mesh.Place, dir string) {
	text, err := os.ReadFile(w.ca)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, p, filepath.Join(dir, "ca.pem"), string(text), 0o644)
}

// javaTrust is a trust store of Java's with the CA.
func javaTrust(t *testing.T, w *world, _ *mesh.Place, _ string) {
	keytool := w.find(t, "keytool")
	w.once(t, "the trust store of Java", func() {
		store := filepath.Join(w.dir, "trust.p12")
		w.must(t, w.dir, keytool, "-importcert", "-noprompt", "-storetype", "PKCS12", "-keystore", store, "-storepass", "changeit", "-alias", "simnet", "-file", w.ca)
		w.env = append(w.env, "JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore="+store+" -Djavax.net.ssl.trustStorePassword=changeit")
	})
}

// mavenHome keeps Maven out of the home of its user, which Java does not take from HOME.
func mavenHome(t *testing.T, w *world, p *mesh.Place, dir string) {
	w.write(t, p, filepath.Join(dir, ".mavenrc"), "MAVEN_OPTS=-Duser.home="+dir+"\n", 0o644)
}

// chromiumTrust is a database of NSS with the CA, which Chromium reads.
func chromiumTrust(t *testing.T, w *world, p *mesh.Place, dir string) {
	database := filepath.Join(dir, ".pki", "nssdb")
	if err := os.MkdirAll(database, 0o700); err != nil {
		t.Fatal(err)
	}
	certutil := w.find(t, "certutil")
	for _, args := range [][]string{{"-N", "--empty-password"}, {"-A", "-t", "C,,", "-n", "simnet", "-i", w.ca}} {
		if r := p.Run(t, "", certutil, append([]string{"-d", "sql:" + database}, args...)...); r.Code != 0 {
			t.Fatalf("certutil: %s", r.Stderr)
		}
	}
}

// aptFolder gives apt folders and sources of its own, by its configuration.
func aptFolder(t *testing.T, w *world, p *mesh.Place, dir string) {
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.write(t, p, filepath.Join(dir, "etc/sources.list"), "deb [trusted=yes] http://deb.debian.org/debian ./\n", 0o644)
	config := filepath.Join(filepath.Dir(w.dir), "apt.conf")
	w.write(t, p, config, `Dir::State "`+dir+`/state"; Dir::Cache "`+dir+`/cache"; Dir::Etc "`+dir+`/etc"; Dir::State::status "/dev/null";
Acquire::Retries "0";
`, 0o644)
	w.once(t, "the configuration of apt", func() { w.env = append(w.env, "APT_CONFIG="+config) })
}
