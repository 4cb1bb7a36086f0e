package clients

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/sumdb/note"
	modzip "golang.org/x/mod/zip"
)

// files is a static site: what is at each path.
type files map[string][]byte

func (f files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, ok := f[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if bytes.HasPrefix(content, []byte("<")) {
		w.Header().Set("Content-Type", "text/html")
	}
	w.Write(content)
}

func hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// entry is a file of an archive.
type entry struct{ name, content string }

func zipped(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		f, err := z.Create(e.name)
		if err == nil {
			_, err = f.Write([]byte(e.content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarball(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	a := tar.NewWriter(g)
	for _, e := range entries {
		err := a.WriteHeader(&tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.content))})
		if err == nil {
			_, err = a.Write([]byte(e.content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pypi is a static index as PEP 503 has it, and the host of its files.
func (w *world) pypi(t *testing.T) {
	w.once(t, "pypi", func() {
		const info = "hello_sluice-1.0.dist-info/"
		wheel := zipped(t, entry{"hello_sluice.py", "print('hello')\n"},
			entry{info + "METADATA", "Metadata-Version: 2.1\nName: hello-sluice\nVersion: 1.0\n"},
			entry{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: sluice\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
			entry{info + "RECORD", "hello_sluice.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"})
		const file = "/packages/hello_sluice-1.0-py3-none-any.whl"
		w.https("pypi.org", files{"/simple/hello-sluice/": fmt.Appendf(nil, `<!DOCTYPE html><a href="https://files.pythonhosted.org%s#sha256=%s">hello_sluice-1.0-py3-none-any.whl</a>`, file, hash(wheel))})
		w.https("files.pythonhosted.org", files{file: wheel})
	})
}

func (w *world) npm(t *testing.T) {
	w.once(t, "npm", func() {
		pack := tarball(t, entry{"package/package.json", `{"name":"hello-sluice","version":"1.0.0"}`}, entry{"package/index.js", "console.log('hello')\n"})
		sum := sha1.Sum(pack)
		const file = "/hello-sluice/-/hello-sluice-1.0.0.tgz"
		w.https("registry.npmjs.org", files{file: pack, "/hello-sluice": fmt.Appendf(nil,
			`{"name":"hello-sluice","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"hello-sluice","version":"1.0.0","dist":{"tarball":"https://registry.npmjs.org%s","shasum":"%x"}}}}`, file, sum)})
	})
}

// crates is a sparse index, and the host of its crates.
func (w *world) crates(t *testing.T) {
	w.once(t, "crates", func() {
		const root = "hello-sluice-1.0.0/"
		crate := tarball(t, entry{root + "Cargo.toml", "[package]\nname = \"hello-sluice\"\nversion = \"1.0.0\"\nedition = \"2021\"\n"}, entry{root + "src/lib.rs", "pub fn hello() {}\n"})
		w.https("index.crates.io", files{
			"/config.json": []byte(`{"dl":"https://static.crates.io/crates","api":"https://crates.io"}`),
			"/he/ll/hello-sluice": fmt.Appendf(nil,
				`{"name":"hello-sluice","vers":"1.0.0","deps":[],"cksum":"%s","features":{},"yanked":false}`+"\n", hash(crate)),
		})
		w.https("static.crates.io", files{"/crates/hello-sluice/1.0.0/download": crate})
	})
}

// goProxy is a static module proxy, and a checksum database of Go's own code. Its key
// is not that of the real one, so the go command must be given it.
func (w *world) goProxy(t *testing.T) {
	w.once(t, "go", func() {
		const path, version, mod = "example.org/hello", "v1.0.0", "module example.org/hello\n\ngo 1.21\n"
		dir := filepath.Join(w.dir, "gomodule")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"go.mod": mod, "hello.go": "package hello\n"} {
			w.write(t, w.user, filepath.Join(dir, name), content, 0o644)
		}
		var packed bytes.Buffer
		if err := modzip.CreateFromDir(&packed, module.Version{Path: path, Version: version}, dir); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(w.dir, "gomodule.zip")
		w.write(t, w.user, file, packed.String(), 0o644)
		all, err := dirhash.HashZip(file, dirhash.Hash1)
		if err != nil {
			t.Fatal(err)
		}
		ofMod, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(mod)), nil })
		if err != nil {
			t.Fatal(err)
		}
		signer, verifier, err := note.GenerateKey(rand.Reader, "sum.golang.org")
		if err != nil {
			t.Fatal(err)
		}
		const at = "/" + path + "/@v/"
		info := []byte(`{"Version":"v1.0.0","Time":"2026-01-02T03:04:05Z"}`)
		w.https("proxy.golang.org", files{at + "list": []byte(version + "\n"), "/" + path + "/@latest": info,
			at + version + ".info": info, at + version + ".mod": []byte(mod), at + version + ".zip": packed.Bytes()})
		database := sumdb.NewServer(sumdb.NewTestServer(signer, func(string, string) ([]byte, error) {
			return fmt.Appendf(nil, "%s %s %s\n%s %s/go.mod %s\n", path, version, all, path, version, ofMod), nil
		}))
		w.https("sum.golang.org", database)
		w.env = append(w.env, "GOSUMDB="+verifier)
	})
}

func (w *world) maven(t *testing.T) {
	w.once(t, "maven", func() {
		served := make(files)
		pom := func(artifact, packaging string) []byte {
			return fmt.Appendf(nil, "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId><artifactId>%s</artifactId><version>1.0</version><packaging>%s</packaging></project>\n", artifact, packaging)
		}
		jar := zipped(t, entry{"META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n"})
		for file, content := range map[string][]byte{
			"org/example/parent/1.0/parent-1.0.pom": pom("parent", "pom"), "org/example/hello/1.0/hello-1.0.pom": pom("hello", "jar"),
			"org/example/hello/1.0/hello-1.0.jar": jar, "org/codehaus/plexus/plexus-utils/1.1/plexus-utils-1.1.jar": jar, // which each extension gets
		} {
			sum := sha1.Sum(content)
			served["/maven2/"+file], served["/maven2/"+file+".sha1"] = content, []byte(hex.EncodeToString(sum[:]))
		}
		w.https("repo.maven.apache.org", served)
	})
}

// gems is an index that gem itself generates.
func (w *world) gems(t *testing.T) {
	w.once(t, "gems", func() {
		dir := w.folder(w.t, w.user, "servers/rubygems")
		w.folder(w.t, w.user, "servers/rubygems/gems")
		w.write(t, w.user, filepath.Join(dir, "hello.gemspec"), "Gem::Specification.new { |s| s.name = 'hello-sluice'; s.version = '1.0'; s.summary = 'hello'; s.authors = ['Sluice']; s.files = [] }\n", 0o644)
		w.must(t, dir, w.find(t, "gem"), "build", "hello.gemspec", "--output", "gems/hello-sluice-1.0.gem")
		w.must(t, dir, w.find(t, "gem"), "generate_index", "--directory", dir)
		for _, name := range []string{"rubygems.org", "index.rubygems.org"} {
			w.https(name, http.FileServer(http.Dir(dir)))
		}
	})
}

// debian is a repository without a signature, which the row's sources trust.
func (w *world) debian(t *testing.T) {
	w.once(t, "debian", func() {
		const packages = "Package: hello-sluice\nVersion: 1.0\nArchitecture: all\nMaintainer: Sluice <sluice@example.com>\nDescription: hello\nFilename: hello.deb\nSize: 1\nSHA256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\n\n"
		w.plain("deb.debian.org", files{"/debian/./Packages": []byte(packages), "/debian/Packages": []byte(packages)})
	})
}

// docker is the registry that crane brings, behind TLS.
func (w *world) docker(t *testing.T) {
	crane := w.find(t, "crane")
	w.once(t, "docker", func() {
		port := freePort(t)
		w.daemon(nil, crane, "registry", "serve", "--address", "127.0.0.1:"+port)
		w.await(t, "tcp", "127.0.0.1:"+port)
		layer := filepath.Join(w.dir, "layer.tar.gz")
		w.write(t, w.user, layer, string(tarball(t, entry{"hello", "hello\n"})), 0o644)
		w.must(t, w.dir, crane, "append", "--insecure", "-f", layer, "-t", "localhost:"+port+"/library/hello-sluice:latest")
		w.https("index.docker.io", httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "127.0.0.1:" + port}))
	})
}

// github serves a repository over HTTPS by git's own program, and over ssh.
func (w *world) github(t *testing.T) {
	backend := w.find(t, "git-http-backend")
	git := w.find(t, "git")
	repositories := filepath.Join(w.dir, "github")
	w.once(t, "github", func() {
		w.folder(w.t, w.user, "servers/github")
		w.must(t, repositories, git, "init", "-q", "-b", "main", "example")
		example := filepath.Join(repositories, "example")
		w.must(t, example, git, "-c", "user.name=example", "-c", "user.email=example@example.com", "commit", "-q", "--allow-empty", "-m", "Say hello")
		w.must(t, example, git, "clone", "-q", "--bare", ".", "hello.git")
		w.https("github.com", &cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + repositories, "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}})
	})
}

// githubSSH is the same over ssh.
func (w *world) githubSSH(t *testing.T) {
	w.github(t)
	w.sshd(t, "github.com", fmt.Sprintf(`cd %s/github && exec git-shell -c "$SSH_ORIGINAL_COMMAND"`, w.dir))
}
