package table

// page is what the small internet serves at www.example.com.
const page = "www.example.com of the small internet"

// All are the rows, by what they speak.
func All() []Client {
	var all []Client
	for _, group := range [][]Client{web(), shells(), databases(), waits(), messages(), packages()} {
		all = append(all, group...)
	}
	return all
}

// web are clients of a page over TLS.
func web() []Client {
	page := func(c Client) Client {
		c.Flags, c.Reports, c.Allowed = "--allow www.example.com", "www.example.com:443", ok(page)
		return c
	}
	return []Client{
		page(Client{
			Name: "curl", Version: "curl --version", Pinned: "curl 7.88.1", Seen: `^curl (7\.88|8)\.`, Debian: []string{"curl"}, Sample: true,
			Line:   "curl -sS https://www.example.com/",
			Denied: fails(35, "curl: (35) "),
		}),
		page(Client{
			Name: "wget", Version: "wget --version", Pinned: "GNU Wget 1.21.3", Seen: `^GNU Wget 1\.2[1-9]`, Debian: []string{"wget"},
			Line:   "wget -nv -O- --tries=1 https://www.example.com/",
			Denied: fails(4, "Unable to establish SSL connection."),
		}),
		page(Client{
			Name: "Python", Version: "python3 --version", Pinned: "Python 3.11.2", Seen: `^Python 3\.1[1-4]\.`, Debian: []string{"python3"}, Sample: true,
			Line:   `python3 -c 'import urllib.request as u; print(u.urlopen("https://www.example.com/").read().decode())'`,
			Denied: fails(1, "urllib.error.URLError: <urlopen error [SSL: TLSV1_ALERT_ACCESS_DENIED]"),
		}),
		page(Client{
			Name: "Node", Version: "node --version", Pinned: "v20.20.2", Seen: `^v(18|2[0-9])\.`, Debian: []string{"nodejs"},
			Line:   `node -e 'fetch("https://www.example.com/").then(r => r.text()).then(console.log)'`,
			Denied: fails(1, "TypeError: fetch failed", "tlsv1 alert access denied"),
		}),
		page(Client{
			Name: "Java", Version: "java --version", Pinned: "openjdk 17.0.21.1", Seen: `^openjdk (17|2[0-9])\.`, Debian: []string{"default-jdk-headless"},
			Setup:  "`Get.java` prints what `java.net.URL` reads",
			Line:   "java Get.java https://www.example.com/",
			Denied: fails(1, "javax.net.ssl.SSLHandshakeException: ", "Received fatal alert: access_denied"), // 17.0.21 names the alert first
		}),
		page(Client{
			Name: "Ruby", Version: "ruby --version", Pinned: "ruby 3.1.2p20", Seen: `^ruby 3\.`, Debian: []string{"ruby"},
			Line:   `ruby -ropen-uri -e 'puts URI.open("https://www.example.com/").read'`,
			Denied: fails(1, "tlsv1 alert access denied", "(OpenSSL::SSL::SSLError)"),
		}),
		page(Client{
			Name: "Chromium", Version: "chromium --version 2>/dev/null", Pinned: "Chromium 156.0.8078.108", Seen: `^Chromium 1[0-9][0-9]\.`, Debian: []string{"chromium", "libnss3-tools"}, Root: true,
			Setup:  "root, for whom Chromium has no sandbox of its own",
			Line:   "chromium --headless --no-sandbox --disable-gpu --dump-dom https://www.example.com/",
			Denied: ok("ERR_"),
			Beside: []string{"clients2.google.com", "redirector.gvt1.com", "update.googleapis.com", "optimizationguide-pa.googleapis.com"},
		}),
	}
}

// shells are ssh and what goes over it, and git.
func shells() []Client {
	const key = "`ssh_config` names the key and the host's own"
	return []Client{
		{
			Name: "ssh", Version: "ssh -V", Pinned: "OpenSSH_9.2p1", Seen: `^OpenSSH_(9|1[0-9])\.`, Debian: []string{"openssh-client"}, Servers: []string{"openssh-server"},
			Sample: true, Setup: key,
			Flags: "--allow shell.example.com:22", Line: "ssh -F ssh_config shell.example.com 'echo $((6*7)) by ssh'",
			Allowed: ok("42 by ssh"),
			Denied:  fails(255, "ssh: connect to host shell.example.com port 22: Connection refused"),

			Unsupervised: fails(255, "kex_exchange_identification: read: Connection reset by peer"),
			Reports:      "shell.example.com:22",
		},
		{
			Name: "git over ssh", Version: "git --version", Pinned: "git version 2.39.5", Seen: `^git version 2\.`, Debian: []string{"git", "openssh-client"}, Servers: []string{"openssh-server"},
			Setup: key,
			Flags: "--preset github", Line: "git -c core.sshCommand='ssh -F ssh_config' clone github.com:example/hello.git over-ssh",
			Allowed: ok("Cloning into 'over-ssh'..."),
			Denied:  fails(128, "ssh: connect to host github.com port 22: Connection refused", "fatal: Could not read from remote repository."),

			Unsupervised: fails(128, "Connection reset by peer", "fatal: Could not read from remote repository."),
			Reports:      "github.com:22",
		},
		{
			Name: "git", Version: "git --version", Pinned: "git version 2.39.5", Seen: `^git version 2\.`, Debian: []string{"git"}, Sample: true,
			Flags: "--preset github", Line: "git clone https://github.com/example/hello.git over-https",
			Allowed: ok("Cloning into 'over-https'..."),
			Denied:  fails(128, "fatal: unable to access 'https://github.com/example/hello.git/'"),
			Reports: "github.com:443",
		},
	}
}

// databases are clients of databases and directories.
func databases() []Client {
	return []Client{
		{
			Name: "psql", Version: "psql --version", Pinned: "psql (PostgreSQL) 15.18", Seen: `^psql \(PostgreSQL\) 1[5-9]`, Debian: []string{"postgresql-client"}, Servers: []string{"postgresql"},
			Sample: true,
			Flags:  "--allow pg.example.com:5432", Line: `psql "host=pg.example.com user=app dbname=postgres sslmode=verify-full sslrootcert=ca.pem" -Atc "select 6*7, ssl from pg_stat_ssl where pid = pg_backend_pid()"`,
			Setup:   "`ca.pem` is the CA of the server",
			Allowed: ok("42|t"),
			Denied:  fails(2, `psql: error: connection to server at "pg.example.com"`, "failed: Connection refused"),

			Unsupervised: fails(2, "failed: server closed the connection unexpectedly"),
			Reports:      "pg.example.com:5432",
		},
		{
			Name: "mysql", Version: "mysql --version", Pinned: "mysql  Ver 15.1 Distrib 10.11.19-MariaDB", Seen: `Distrib 1[0-9]\.[0-9.]+-MariaDB`, Debian: []string{"mariadb-client"}, Servers: []string{"mariadb-server"},
			Flags: "--allow my.example.com:3306", Line: "mysql -h my.example.com -u app -Ne 'select 6*7'",
			Allowed: ok("42"),
			Denied:  fails(1, "ERROR 2002 (HY000): Can't connect to server on 'my.example.com' (111)"),

			Unsupervised: fails(1, "ERROR 2013 (HY000): Lost connection to server at 'handshake: reading initial communication packet', system error: 104"),
			Reports:      "my.example.com:3306",
		},
		{
			Name: "redis-cli", Version: "redis-cli --version", Pinned: "redis-cli 7.0.15", Seen: `^redis-cli [7-9]\.`, Debian: []string{"redis-tools"}, Servers: []string{"redis-server"},
			Flags: "--allow cache.example.com:6379", Line: "redis-cli -h cache.example.com ping",
			Allowed: ok("PONG"),
			Denied:  fails(1, "Could not connect to Redis at cache.example.com:6379: Connection refused"),

			Unsupervised: fails(1, "Error: Connection reset by peer"),
			Reports:      "cache.example.com:6379",
		},
		{
			Name: "redis-cli over TLS", Version: "redis-cli --version", Pinned: "redis-cli 7.0.15", Seen: `^redis-cli [7-9]\.`, Debian: []string{"redis-tools"}, Servers: []string{"redis-server"},
			Flags: "--allow cache.example.com:6380/tcp", Line: "redis-cli --tls --cacert ca.pem -h cache.example.com -p 6380 ping",
			Setup:   "`ca.pem` is the CA of the server; redis-cli sends no server name",
			Allowed: ok("PONG"),
			Denied:  fails(1, "Could not connect to Redis at cache.example.com:6380: Connection refused"),

			Unsupervised: Outcome{
				Codes: []int{1}, Says: []string{"Could not connect to Redis at cache.example.com:6380: SSL_connect failed: tlsv1 unrecognized name"},
				Why: "The TLS handshake names no server (no SNI), and no tcp rule allows the destination.",
			},
			Reports: "cache.example.com:6380",
		},
		{
			Name: "ldapsearch", Version: "ldapsearch -VV", Pinned: "OpenLDAP: ldapsearch 2.5.13", Seen: `OpenLDAP: ldapsearch 2\.[5-9]`, Debian: []string{"ldap-utils"}, Servers: []string{"slapd"},
			Flags: "--allow ldap.example.com:389", Line: "ldapsearch -x -LLL -H ldap://ldap.example.com -b dc=example,dc=com -s base",
			Allowed: ok("dn: dc=example,dc=com"),
			Denied:  fails(255, "ldap_sasl_bind(SIMPLE): Can't contact LDAP server (-1)"),

			Unsupervised: fails(254, "ldap_result: Can't contact LDAP server (-1)"),
			Reports:      "ldap.example.com:389",
		},
	}
}

// waits is a script's wait for a server.
func waits() []Client {
	return []Client{{
		Name: "nc in a loop", Version: "nc -h", Pinned: "OpenBSD netcat (Debian patchlevel 1.219-1)", Seen: `^OpenBSD netcat`,
		Debian: []string{"netcat-openbsd"}, Servers: []string{"redis-server"},
		Flags: "--allow cache.example.com:6379", Line: "timeout 3 sh -c 'until nc -zv cache.example.com 6379; do sleep 1; done'",
		Allowed: ok("Connection to cache.example.com", "succeeded!"),
		Denied:  fails(124, "nc: connect to cache.example.com", "failed: Connection refused"),
		Reports: "cache.example.com:6379",

		Unsupervised: Outcome{Codes: []int{0}, Says: []string{"succeeded!"}, Unspoken: true},
	}}
}

// messages are mail and queues.
func messages() []Client {
	return []Client{
		{
			Name: "SMTP with STARTTLS", Version: "curl --version", Pinned: "curl 7.88.1", Seen: `^curl (7\.88|8)\.`, Debian: []string{"curl"}, PyPI: []string{"aiosmtpd==1.4.6"},
			Setup: "`mail.txt` is a message",
			Flags: "--allow mail.example.com:587", Line: "curl -sSv --ssl-reqd --url smtp://mail.example.com:587 --mail-from a@example.com --mail-rcpt b@example.com -T mail.txt",
			Allowed: ok("> STARTTLS", "SSL connection using TLSv1.3", "< 250 OK"),
			Denied:  fails(7, "curl: (7) Failed to connect to mail.example.com port 587"),

			Unsupervised: fails(56, "curl: (56) Recv failure: Connection reset by peer"),
			Reports:      "mail.example.com:587",
		},
		{
			Name: "AMQP (pika)", Version: `python3 -c 'import pika; print("pika", pika.__version__)'`, Pinned: "pika 1.4.4", Seen: `^pika 1\.4\.`, PyPI: []string{"pika==1.4.4"}, Servers: []string{"rabbitmq-server"},
			Setup: "`queue.py` sends a message to a queue and takes it from there",
			Flags: "--allow mq.example.com:5672", Line: "python3 queue_hello.py mq.example.com",
			Allowed: ok("got hello by AMQP"),
			Denied:  fails(1, "pika.exceptions.AMQPConnectionError"),

			Unsupervised: fails(1, "pika.exceptions.IncompatibleProtocolError"),
			Reports:      "mq.example.com:5672",
		},
	}
}

// packages are the clients of registries, each of which finds its own by name.
func packages() []Client {
	return []Client{
		{
			Name: "pip", Version: "pip --version", Pinned: "pip 26.3", Seen: `^pip 2[3-9]\.`, PyPI: []string{"pip==26.3"},
			Flags: "--preset pypi", Line: "pip install --target lib hello-sluice",
			Allowed: ok("Successfully installed hello-sluice-1.0"),
			Denied:  fails(1, "ERROR: No matching distribution found for hello-sluice"),
			Reports: "pypi.org:443",
		},
		{
			Name: "npm", Version: "npm --version", Pinned: "11.19.1", Seen: `^(9|1[0-9])\.`, Debian: []string{"npm"},
			Flags: "--preset npm", Line: "npm install --fetch-retries=0 hello-sluice",
			Allowed: ok("added 1 package"),
			Denied:  fails(1, "npm error"),
			Reports: "registry.npmjs.org:443",
		},
		{
			Name: "cargo", Version: "cargo --version", Pinned: "cargo 1.95.0", Seen: `^cargo 1\.(6[89]|[7-9][0-9]|1[0-9][0-9])\.`, Debian: []string{"cargo-web"},
			Setup: "`Cargo.toml` depends on `hello-sluice`",
			Flags: "--preset cargo", Line: "cargo fetch",
			Allowed: ok("Downloaded hello-sluice v1.0.0"),
			Denied:  fails(101, "failed to download"),
			Reports: "index.crates.io:443",
		},
		{
			Name: "go", Version: "go version", Pinned: "go version go1.27.4", Seen: `^go version go1\.2[1-9]`,
			Setup: "`go.mod` is there",
			Flags: "--preset go", Line: "go get example.org/hello",
			Allowed: ok("go: added example.org/hello v1.0.0"),
			Denied:  fails(1, "https://proxy.golang.org/example.org/hello/@v/list", "remote error: tls: access denied"),
			Reports: "proxy.golang.org:443",
		},
		{
			Name: "mvn", Version: "mvn --version", Pinned: "Apache Maven 3.8.7", Seen: `Apache Maven 3\.[89]`, Debian: []string{"maven"},
			Setup: "the parent of `pom.xml`, and an extension of its build, are of Maven Central",
			Flags: "--preset maven", Line: "mvn -B validate",
			Allowed: ok("parent/1.0/parent-1.0.pom", "Downloaded from central: https://repo.maven.apache.org/maven2/org/example/hello/1.0/hello-1.0.jar", "BUILD SUCCESS"),
			Denied:  fails(1, "Could not transfer artifact org.example:parent:pom:1.0 from/to central", "access_denied"),
			Reports: "repo.maven.apache.org:443",
		},
		{
			Name: "gem", Version: "gem --version", Pinned: "3.3.15", Seen: `^3\.`, Debian: []string{"ruby"},
			Flags: "--allow rubygems.org --allow index.rubygems.org", Line: "gem install --install-dir gems hello-sluice",
			Allowed: ok("Successfully installed hello-sluice-1.0"),
			Denied:  fails(2, "Could not find a valid gem 'hello-sluice'"),
			Reports: "rubygems.org:443", Serves: "index.rubygems.org",
		},
		{
			Name: "apt", Version: "apt-get --version", Pinned: "apt 2.6.1", Seen: `^apt [23]\.`, Debian: []string{"apt"}, Root: true,
			Flags: "--preset debian", Line: "apt-get update",
			Allowed: ok("http://deb.debian.org/debian", "Reading package lists"),
			Denied:  fails(100, "403  Forbidden"),
			Reports: "deb.debian.org:80",
		},
		{
			Name: "crane", Version: "crane version", Pinned: "v0.22.1", Seen: `^v?0\.2[0-9]\.`, Go: []string{"github.com/google/go-containerregistry/cmd/crane@v0.22.1"},
			Flags: "--preset containers", Line: "crane pull hello-sluice hello.tar",
			Allowed: ok(""),
			Denied:  fails(1, "remote error: tls: access denied"),
			Reports: "index.docker.io:443",
		},
	}
}
