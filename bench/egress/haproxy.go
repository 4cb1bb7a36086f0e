package egress

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"sluice.dev/sluice/bench/load"
)

// haproxyVariant is one way to run HAProxy: without a record of requests, which
// is less work than ours, and with one in a ring in memory, as ours is.
type haproxyVariant struct {
	name string
	log  bool
}

var haproxyVariants = []haproxyVariant{
	{"HAProxy, no record", false},
	{"HAProxy, log in a ring", true},
}

// findHAProxy returns the first of the programs that is there.
func findHAProxy(programs ...string) (string, error) {
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("haproxy is not installed (apt-get install haproxy)")
}

func haproxyVersion(path string) string {
	out, err := exec.Command(path, "-v").Output()
	if err != nil {
		return "HAProxy"
	}
	words := strings.Fields(string(out))
	if len(words) < 3 {
		return "HAProxy"
	}
	return "HAProxy " + words[2]
}

type haproxyConfig struct{ path, text string }

// configure returns the contender and its configuration; files are in dir.
func (v haproxyVariant) configure(dir string, number int) (contender, haproxyConfig) {
	plain, tls, through := fmt.Sprintf("127.0.0.1:%d", 8100+3*number), fmt.Sprintf("127.0.0.1:%d", 8101+3*number), fmt.Sprintf("127.0.0.1:%d", 8102+3*number)
	ring, log, logConns := "", "", ""
	if v.log {
		ring = "ring flows\n  format rfc5424\n  maxlen 1200\n  size 1048576\n"
		log = "  log ring@flows local0\n  option httplog\n"
		logConns = "  log ring@flows local0\n  option tcplog\n"
	}
	gate := log + `  http-request deny unless { req.hdr(host),field(1,:),lower,map(` + filepath.Join(dir, namesFile) + `) -m found }
  http-request del-header keep-alive
  http-request del-header proxy-connection
`
	text := `global
  nbthread 1
  maxconn 4000
  tune.bufsize 16384
` + ring + `defaults
  mode http
  timeout client 600s
  timeout server 600s
  timeout connect 5s
  timeout http-keep-alive 600s
  http-reuse always
  option http-keep-alive
frontend plain
  bind ` + plain + `
` + gate + `  default_backend plain
backend plain
  server s ` + upstreamAddr + `:80 pool-max-conn 4096
frontend tls
  bind ` + tls + `
` + gate + `  default_backend tls
backend tls
  server s ` + upstreamAddr + `:443 ssl verify required ca-file ` + filepath.Join(dir, caFile) + ` sni str(` + load.Host + `) verifyhost ` + load.Host + ` ssl-min-ver TLSv1.3 pool-max-conn 4096
frontend through
  mode tcp
  bind ` + through + `
` + logConns + `  tcp-request inspect-delay 5s
  tcp-request content reject if { req.ssl_hello_type 1 } !{ req.ssl_sni,lower,map(` + filepath.Join(dir, namesFile) + `) -m found }
  tcp-request content accept if { req.ssl_hello_type 1 }
  default_backend through
backend through
  mode tcp
  server s ` + upstreamAddr + `:` + strconv.Itoa(throughPort) + `
`
	return contender{name: v.name, plain: plain, tls: tls, through: through}, haproxyConfig{filepath.Join(dir, fmt.Sprintf("haproxy-%d.cfg", number)), text}
}
