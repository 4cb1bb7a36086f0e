package run

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// proxyVariables are the variables by which clients are told of a proxy, in lower case:
// each counts however it is spelled.
var proxyVariables = []string{
	"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "socks_proxy", "ws_proxy", "wss_proxy", "rsync_proxy", // curl, wget and most others
	"cgi_http_proxy",              // PHP's and Perl's, where http_proxy may be a client's header
	"grpc_proxy", "no_grpc_proxy", // gRPC's core
	"pip_proxy",                                 // pip's option of that name
	"cargo_http_proxy",                          // cargo's http.proxy
	"npm_config_proxy", "npm_config_http_proxy", // npm's and pnpm's own
	"npm_config_https_proxy", "npm_config_noproxy", //
	"yarn_http_proxy", "yarn_https_proxy", // yarn since 2
	"global_agent_http_proxy", "global_agent_https_proxy", "global_agent_no_proxy", // Node's global-agent
	"cloudsdk_proxy_type", "cloudsdk_proxy_address", "cloudsdk_proxy_port", "cloudsdk_proxy_username", "cloudsdk_proxy_password", // gcloud
	"conda_proxy_servers",
	"vagrant_http_proxy", "vagrant_https_proxy", "vagrant_no_proxy",
}

// javaVariables are those that hold options of Java, a proxy perhaps among them.
var javaVariables = []string{"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "JAVA_OPTS", "MAVEN_OPTS", "GRADLE_OPTS", "SBT_OPTS"}

// javaProxy is an option of Java that names a proxy; those with quotes are left.
var javaProxy = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(^|\s)-D(?:(?:https?|ftp)\.(?:proxy(?:Host|Port|User|Password)|nonProxyHosts)|socksProxy(?:Host|Port|Version)|socksNonProxyHosts)=[^\s"']*(?:\s|$)`)
})

// ownVariables are variables of this program that may hold credentials, and those that
// change what resolv.conf says, of which the command has another: under glibc LOCALDOMAIN
// takes the place of its search list, by which the services of the mesh are found.
var ownVariables = []string{ViaVariable, "LOCALDOMAIN"}

// withoutProxies is an environment without the proxies that it names: inside of a sandbox
// they cannot be reached, unless a rule says so, and their credentials are not the
// command's. named are the variables that named one.
func withoutProxies(env []string) (rest, named []string) {
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		switch {
		case slices.Contains(ownVariables, name):
			continue
		case slices.Contains(proxyVariables, strings.ToLower(name)):
			if value != "" {
				named = append(named, name)
			}
			continue
		case slices.Contains(javaVariables, name) && javaProxy().MatchString(value):
			for javaProxy().MatchString(value) { // what ends one option begins the next
				value = javaProxy().ReplaceAllString(value, " ")
			}
			named, entry = append(named, name+" (its proxy)"), name+"="+strings.TrimSpace(value)
		}
		rest = append(rest, entry)
	}
	slices.Sort(named)
	return rest, slices.Compact(named)
}

// sayProxies says that proxies of the environment are not passed in; "" where there are
// none.
func sayProxies(c *Config) string {
	if len(c.proxies) == 0 {
		return ""
	}
	verb := " are"
	if len(c.proxies) == 1 {
		verb = " is"
	}
	text := listed(c.proxies) + verb + " not passed in: the command reaches what the rules allow without"
	if c.Via == nil && c.Attach == "" {
		text += "; with --via-proxy all of that leaves through the proxy of the environment"
	}
	return text
}

// listed is "a", "a and b", "a, b and c".
func listed(words []string) string {
	if last := len(words) - 1; last > 0 {
		return strings.Join(words[:last], ", ") + " and " + words[last]
	}
	return strings.Join(words, "")
}
