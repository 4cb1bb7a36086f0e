package clients

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// pair writes the certificate of a name and its key into one file.
func (w *world) pair(name string) string {
	w.t.Helper()
	file := filepath.Join(w.dir, name+".pem")
	w.write(w.t, w.user, file, string(w.net.Certificate(w.t, name)), 0o600)
	return file
}

// sshd serves a name on 22: OpenSSH's server, one process for each connection as
// inetd starts it. command, where set, takes the place of what the client asks for.
func (w *world) sshd(t *testing.T, name, command string) {
	server := w.find(t, "sshd")
	w.once(t, "keys of ssh", func() {
		for _, key := range []string{"host", "login"} {
			w.must(t, w.dir, w.find(t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", filepath.Join(w.dir, key))
		}
	})
	w.once(t, "sshd "+name, func() {
		config := filepath.Join(w.dir, "sshd."+name)
		text := fmt.Sprintf("HostKey %s/host\nAuthorizedKeysFile %s/login.pub\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPrintMotd no\n", w.dir, w.dir)
		if command != "" {
			text += "ForceCommand " + command + "\n"
		}
		w.write(w.t, w.user, config, text, 0o644)
		w.accept(name, 22, func(c net.Conn) {
			file, err := c.(*net.UnixConn).File()
			c.Close()
			if err != nil {
				return
			}
			defer file.Close()
			cmd := w.user.Command(context.Background(), server, "-i", "-f", config)
			cmd.Stdin, cmd.Stdout = file, file
			cmd.Run() // what it says of a client that leaves is the client's own
		})
	})
}

// sshConfig writes the configuration of a client of name.
func (w *world) sshConfig(t *testing.T, p *mesh.Place, dir, name string) {
	t.Helper()
	host, err := os.ReadFile(filepath.Join(w.dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	login, err := os.ReadFile(filepath.Join(w.dir, "login"))
	if err != nil {
		t.Fatal(err)
	}
	as := "root"
	if uid := w.user.User.UID; uid >= 0 || os.Geteuid() != 0 {
		if uid < 0 {
			uid = os.Getuid()
		}
		found, err := user.LookupId(fmt.Sprint(uid))
		if err != nil {
			t.Fatal(err)
		}
		as = found.Username
	}
	w.write(t, p, filepath.Join(dir, "login"), string(login), 0o600)
	w.write(t, p, filepath.Join(dir, "known"), name+" "+string(host), 0o644)
	w.write(t, p, filepath.Join(dir, "ssh_config"), fmt.Sprintf("Host %s\n  User %s\n  IdentityFile %s/login\n  UserKnownHostsFile %s/known\n  BatchMode yes\n", name, as, dir, dir), 0o644)
}

func (w *world) postgres(t *testing.T) {
	var server string
	for _, at := range []string{"/usr/lib/postgresql/*/bin/postgres", "/usr/bin/postgres", "/usr/local/bin/postgres"} {
		if found, _ := filepath.Glob(at); len(found) > 0 && server == "" {
			server = found[len(found)-1]
		}
	}
	if server == "" {
		missing(t, "the server postgres")
	}
	if w.user.User.UID < 0 && os.Geteuid() == 0 {
		missing(t, "an ordinary user, without whom PostgreSQL does not start,")
	}
	w.once(t, "postgres", func() {
		data := filepath.Join(w.dir, "pg")
		w.must(t, w.dir, filepath.Join(filepath.Dir(server), "initdb"), "-D", data, "-A", "trust", "-U", "app", "--no-sync")
		w.write(w.t, w.user, filepath.Join(data, "pg_hba.conf"), "local all all trust\n", 0o600)
		// Over a unix socket PostgreSQL offers no TLS, so this one listens on loopback.
		port := freePort(t)
		pair := w.pair("pg.example.com")
		w.write(w.t, w.user, filepath.Join(data, "pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n", 0o600)
		w.daemon(nil, server, "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "ssl=on",
			"-c", "ssl_cert_file="+pair, "-c", "ssl_key_file="+pair, "-c", "fsync=off")
		// It listens before it takes anybody.
		ready := w.find(t, "pg_isready")
		w.untilUp(t, func() error {
			out, err := exec.Command(ready, "-h", "127.0.0.1", "-p", port).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		})
		w.bridge("pg.example.com", 5432, "127.0.0.1:"+port)
	})
}

func (w *world) mariadb(t *testing.T) {
	server := w.find(t, "mariadbd")
	w.once(t, "mariadb", func() {
		data := w.folder(w.t, w.user, "servers/my")
		args := []string{"--no-defaults", "--skip-grant-tables", "--skip-networking", "--datadir=" + data, "--socket=" + filepath.Join(data, "s"),
			"--pid-file=" + filepath.Join(data, "p"), "--innodb=OFF", "--default-storage-engine=MyISAM", "--log-error=" + filepath.Join(data, "log")}
		if w.user.User.UID < 0 && os.Geteuid() == 0 {
			args = append(args, "--user=root")
		}
		w.daemon(nil, server, args...)
		w.await(t, "unix", filepath.Join(data, "s"))
		w.net.Publish(w.t, "my.example.com", 3306, filepath.Join(data, "s"))
	})
}

func (w *world) redis(t *testing.T) {
	server := w.find(t, "redis-server")
	w.once(t, "redis", func() {
		port, pair, socket := freePort(t), w.pair("cache.example.com"), filepath.Join(w.dir, "redis")
		w.daemon(nil, server, "--save", "", "--dir", w.dir, "--port", "0", "--unixsocket", socket, "--bind", "127.0.0.1", "--tls-port", port,
			"--tls-cert-file", pair, "--tls-key-file", pair, "--tls-ca-cert-file", w.ca, "--tls-auth-clients", "no", "--protected-mode", "no")
		w.await(t, "unix", socket)
		w.await(t, "tcp", "127.0.0.1:"+port)
		w.net.Publish(w.t, "cache.example.com", 6379, socket)
		w.bridge("cache.example.com", 6380, "127.0.0.1:"+port)
	})
}

func (w *world) slapd(t *testing.T) {
	server := w.find(t, "slapd")
	w.once(t, "slapd", func() {
		data := w.folder(w.t, w.user, "servers/ldap")
		config, socket := filepath.Join(data, "slapd.conf"), filepath.Join(data, "s")
		modules := ""
		if found, _ := filepath.Glob("/usr/lib/ldap/back_mdb*"); len(found) > 0 {
			modules = "modulepath /usr/lib/ldap\nmoduleload back_mdb\n"
		}
		w.write(w.t, w.user, config, modules+"include /etc/ldap/schema/core.schema\npidfile "+data+"/p\ndatabase mdb\nsuffix dc=example,dc=com\ndirectory "+data+"\n", 0o644)
		first := filepath.Join(data, "first.ldif")
		w.write(w.t, w.user, first, "dn: dc=example,dc=com\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n", 0o644)
		w.must(t, data, w.find(t, "slapadd"), "-f", config, "-l", first)
		w.daemon(nil, server, "-f", config, "-d", "0", "-h", "ldapi://"+strings.ReplaceAll(socket, "/", "%2F"))
		w.await(t, "unix", socket)
		w.net.Publish(w.t, "ldap.example.com", 389, socket)
	})
}

func (w *world) smtp(t *testing.T) {
	python := w.find(t, "python3")
	if exec.Command(python, "-c", "import aiosmtpd").Run() != nil {
		python = "/usr/bin/python3"
		if exec.Command(python, "-c", "import aiosmtpd").Run() != nil {
			missing(t, "the server aiosmtpd")
		}
	}
	w.once(t, "smtp", func() {
		port, pair := freePort(t), w.pair("mail.example.com")
		w.daemon([]string{"PYTHONUNBUFFERED=1"}, python, "-m", "aiosmtpd", "-n", "-l", "127.0.0.1:"+port, "-c", "aiosmtpd.handlers.Sink", "--tlscert", pair, "--tlskey", pair)
		w.await(t, "tcp", "127.0.0.1:"+port)
		w.bridge("mail.example.com", 587, "127.0.0.1:"+port)
	})
}

func (w *world) rabbitmq(t *testing.T) {
	server := w.find(t, "rabbitmq-server")
	if at := "/usr/lib/rabbitmq/bin/rabbitmq-server"; exec.Command("test", "-x", at).Run() == nil {
		server = at // the one in sbin is for its own user alone
	}
	w.once(t, "rabbitmq", func() {
		data, port, epmd := w.folder(w.t, w.user, "servers/mq"), freePort(t), freePort(t)
		for _, file := range []string{"plugins", "rabbitmq.conf"} {
			w.write(w.t, w.user, filepath.Join(data, file), map[string]string{"plugins": "[].\n"}[file], 0o644)
		}
		// Erlang starts its name server by itself and leaves it behind; this one is ours.
		w.daemon([]string{"ERL_EPMD_ADDRESS=127.0.0.1"}, w.find(t, "epmd"), "-port", epmd)
		w.await(t, "tcp", "127.0.0.1:"+epmd)
		w.daemon([]string{"HOME=" + data, "RABBITMQ_HOME=/usr/lib/rabbitmq", "RABBITMQ_NODENAME=rabbit@localhost", "ERL_EPMD_PORT=" + epmd, "ERL_EPMD_ADDRESS=127.0.0.1",
			"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT=" + port, "RABBITMQ_DIST_PORT=" + freePort(t), "RABBITMQ_MNESIA_BASE=" + data, "RABBITMQ_LOG_BASE=" + data,
			"RABBITMQ_LOGS=-", "RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(data, "plugins"), "RABBITMQ_CONFIG_FILE=" + filepath.Join(data, "rabbitmq"),
			"RABBITMQ_CONF_ENV_FILE=/dev/null", "LANG=C.UTF-8"}, server)
		w.await(t, "tcp", "127.0.0.1:"+port)
		w.bridge("mq.example.com", 5672, "127.0.0.1:"+port)
	})
}
