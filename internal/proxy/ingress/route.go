package ingress

import (
	"fmt"
	"strings"

	"sluice.dev/sluice/internal/httppath"
	"sluice.dev/sluice/internal/names"
)

// MaxPaths bounds the paths of one ingress.
const MaxPaths = 256

// Route leads requests on some paths to a service of the mesh.
type Route struct {
	Paths   []string // exact, or a prefix that ends in ".*", as an Ingress of Istio 0.5 has them
	Service names.Name
	Port    uint16
}

// ParseRoute reads "/productpage,/static.*=productpage:9080".
func ParseRoute(s string) (Route, error) {
	paths, target, ok := strings.Cut(s, "=")
	service, port, withPort := strings.Cut(target, ":")
	number, isPort := names.ParsePort(port)
	if !ok || !withPort || !isPort {
		return Route{}, fmt.Errorf("ingress route %q must look like /path,/prefix.*=service:port", s)
	}
	name, err := names.Parse(service)
	if err != nil {
		return Route{}, fmt.Errorf("ingress route %q: %w", s, err)
	}
	route := Route{Paths: strings.Split(paths, ","), Service: name, Port: number}
	for _, path := range route.Paths {
		if !strings.HasPrefix(path, "/") {
			return Route{}, fmt.Errorf("ingress route %q: path %q must begin with /", s, path)
		}
	}
	return route, nil
}

// checkPaths fails where there are too many.
func checkPaths(routes []Route) error {
	count := 0
	for i := range routes {
		count += len(routes[i].Paths)
	}
	if count > MaxPaths {
		return fmt.Errorf("serve ingress: %d paths, at most %d are taken", count, MaxPaths)
	}
	return nil
}

// matches compares a path as it came. Behind a prefix only a path that can be read
// in one way counts: a server may take /static/../login for /login. The prefix "/"
// opens everything anyway.
func (r *Route) matches(path string) bool {
	for _, p := range r.Paths {
		prefix, isPrefix := strings.CutSuffix(p, ".*")
		if p == path || isPrefix && strings.HasPrefix(path, prefix) && (prefix == "/" || httppath.IsNormal(path)) {
			return true
		}
	}
	return false
}
