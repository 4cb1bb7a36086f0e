package api

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/internal/httpfield"
	"sluice.dev/sluice/internal/httppath"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/route"
)

// Bounds of a RouteRule; ours.
const (
	maxRoutes     = 32
	maxHeaders    = 32
	maxMatchBytes = 4096 // of one string to match
	maxRegexBytes = 1024 // of one expression: what a route takes

	maxAppendedBytes = 4 << 10   // of appended headers: what a route takes
	maxDuration      = time.Hour // of a fault, a time-out, an attempt
	maxAttempts      = 32        // beside the first: what a route takes
	maxSubnets       = 64        // from which a connection comes, or to which it goes
	maxCORSValues    = 64        // of each list: what a route takes
	maxCORSBytes     = 2 << 10   // of each list, joined: what a route takes
	maxCORSAge       = 365 * 24 * time.Hour
)

// routeRule validates a RouteRule in the words of Istio 0.5. A field that is valid and
// that this version does not act on is refused as not supported yet.
func (v *validation) routeRule(spec *istio.RouteRuleSpec) {
	if d := spec.Destination; d == nil {
		v.fail("spec.destination", "route rule must have a destination service")
	} else {
		v.routed("spec.destination", d)
		if len(d.Labels) > 0 {
			v.fail("spec.destination.labels", "route rule destination labels must be empty")
		}
	}
	if spec.Match != nil {
		v.match(spec.Match)
	}
	v.weights(spec)

	if spec.Redirect != nil {
		v.redirect(spec)
	}
	if spec.Rewrite != nil {
		if spec.Rewrite.URI == "" && spec.Rewrite.Authority == "" {
			v.fail("spec.rewrite", "rewrite must specify path, host, or both")
		}
		if spec.Redirect != nil {
			v.fail("spec.rewrite", "rule cannot contain both rewrite and redirect")
		}
		v.failIf("spec.rewrite.uri", httppath.CheckRewrite(spec.Rewrite.URI))
		v.address("spec.rewrite", spec.Rewrite.URI, spec.Rewrite.Authority)
	}
	if spec.WebsocketUpgrade && spec.Redirect != nil {
		v.fail("spec.websocketUpgrade", "WebSocket upgrade is not allowed on redirect rules")
	}
	if t := spec.HTTPReqTimeout; t != nil && t.SimpleTimeout != nil {
		v.duration("spec.httpReqTimeout.simpleTimeout.timeout", "httpTimeout invalid: ", t.SimpleTimeout.Timeout)
	}
	if r := spec.HTTPReqRetries; r != nil && r.SimpleRetry != nil {
		if r.SimpleRetry.Attempts < 0 {
			v.fail("spec.httpReqRetries.simpleRetry.attempts", "attempts must be in range [0..]")
		}
		if r.SimpleRetry.Attempts > maxAttempts {
			v.fail("spec.httpReqRetries.simpleRetry.attempts", "more than %d attempts", maxAttempts)
		}
		if r.SimpleRetry.PerTryTimeout != "" {
			v.duration("spec.httpReqRetries.simpleRetry.perTryTimeout", "perTryTimeout invalid: ", r.SimpleRetry.PerTryTimeout)
		}
	}
	if spec.HTTPFault != nil {
		v.fault(spec.HTTPFault)
	}
	if spec.L4Fault != nil {
		v.fail("spec.l4Fault", "L4 faults are not implemented")
		if spec.L4Fault.Terminate != nil {
			v.fail("spec.l4Fault.terminate", "the terminate fault not supported yet")
		}
	}
	if spec.Mirror != nil {
		if host := v.target("spec.mirror", spec.Mirror, spec.Destination); host != "" && len(spec.Mirror.Labels) > 0 {
			v.fail("spec.mirror.labels", outsideLabels, host)
		}
		if spec.Redirect != nil {
			v.fail("spec.mirror", "a rule with redirect sends nothing on that could be mirrored")
		}
	}
	if spec.CorsPolicy != nil {
		v.cors(spec.CorsPolicy)
	}
	v.appended(spec.AppendHeaders)
}

// inMesh validates a reference to a service of the mesh.
func (v *validation) inMesh(at string, s *istio.Service) {
	if host := v.routed(at, s); host != "" {
		v.fail(at, "%s is not a service of the mesh", host)
	}
}

// routed validates a reference to a service of the mesh, or to hosts outside it: host is what
// stands for these, "" for a service.
func (v *validation) routed(at string, s *istio.Service) (host string) {
	before := len(v.errors)
	v.service(at, s)
	if len(v.errors) > before {
		return ""
	}
	full := s.FullName(DefaultNamespace, istio.ClusterDomain)
	if strings.HasSuffix(full, ".svc."+istio.ClusterDomain) && !strings.HasPrefix(full, "*") {
		return ""
	}
	if s.Service == "" {
		v.fail(at, "%s is not a service of the mesh: a host outside it is given as service", full)
		return ""
	}
	_, err := route.ParseHosts(full)
	v.failIf(at, err)
	return full
}

// outsideLabels is why labels are refused beside a host.
const outsideLabels = "labels select instances of a service; %s is outside the mesh"

// target validates where a rule sends requests: a service, or one host, which it returns.
func (v *validation) target(at string, s, destination *istio.Service) (host string) {
	host = v.routed(at, s)
	same := destination != nil && host == destination.FullName(DefaultNamespace, istio.ClusterDomain)
	if strings.HasPrefix(host, "*") && (!same || at == "spec.mirror") {
		v.fail(at, "%s stands for many hosts: name the one to send to", host)
	}
	return host
}

// service validates a reference to a service.
func (v *validation) service(at string, s *istio.Service) {
	switch {
	case s.Name == "" && s.Service == "":
		v.fail(at, "name or service is mandatory for a service reference")
	case s.Name != "" && s.Service != "":
		v.fail(at, "specify either name or service, not both")
	}
	if s.Service != "" {
		if s.Namespace != "" {
			v.fail(at+".namespace", "namespace is not valid when service is provided")
		}
		if s.Domain != "" {
			v.fail(at+".domain", "domain is not valid when service is provided")
		}
		v.failIf(at+".service", egressService(s.Service))
	}
	if s.Name != "" && !isLabel(s.Name) {
		v.fail(at+".name", "name %q must be a valid label", s.Name)
	}
	if s.Namespace != "" && !isLabel(s.Namespace) {
		v.fail(at+".namespace", "namespace %q must be a valid label", s.Namespace)
	}
	if s.Domain != "" {
		if _, err := names.ParseIstioPattern(s.Domain); err != nil {
			v.fail(at+".domain", "%v", err)
		} else if first, _, _ := strings.Cut(s.Domain, "."); first[0] == '*' {
			v.fail(at+".domain", "domain name %q invalid (label %q invalid)", s.Domain, first)
		}
	}
	v.tags(at+".labels", s.Labels)
}

// tagWord is what keys and values of labels were made of in Istio 0.5.
var tagWord = lazily(`^[-A-Za-z0-9_./]*$`)

func (v *validation) tags(at string, labels map[string]string) {
	if len(labels) > maxLabels {
		v.fail(at, "more than %d labels", maxLabels)
		return
	}
	for _, key := range sortedKeys(labels) {
		if key == "" || !tagWord().MatchString(key) {
			v.fail(at+"["+key+"]", "invalid tag key: %q", key)
		}
		if !tagWord().MatchString(labels[key]) {
			v.fail(at+"["+key+"]", "invalid tag value: %q", labels[key])
		}
	}
}

func (v *validation) match(m *istio.MatchCondition) {
	if m.Source != nil {
		v.inMesh("spec.match.source", m.Source)
	}
	if m.TCP != nil {
		v.subnets("spec.match.tcp", m.TCP)
	}
	if m.UDP != nil {
		v.subnets("spec.match.udp", m.UDP)
		v.fail("spec.match.udp", "UDP protocol not supported yet")
	}
	if m.Request == nil {
		return
	}
	if len(m.Request.Headers) > maxHeaders {
		v.fail("spec.match.request.headers", "more than %d headers", maxHeaders)
		return
	}
	for _, name := range sortedKeys(m.Request.Headers) {
		at := "spec.match.request.headers[" + name + "]"
		v.failIf(at, headerName(name))
		v.stringMatch(at, name, m.Request.Headers[name])
	}
}

func (v *validation) subnets(at string, m *istio.L4Match) {
	if len(m.SourceSubnet) > maxSubnets || len(m.DestinationSubnet) > maxSubnets {
		v.fail(at, "more than %d subnets", maxSubnets)
		return
	}
	for i, subnet := range m.SourceSubnet {
		_, err := istio.ParseSubnet(subnet)
		v.failIf(fmt.Sprintf("%s.sourceSubnet[%d]", at, i), err)
	}
	for i, subnet := range m.DestinationSubnet {
		_, err := istio.ParseSubnet(subnet)
		v.failIf(fmt.Sprintf("%s.destinationSubnet[%d]", at, i), err)
	}
}

func (v *validation) stringMatch(at, name string, m istio.StringMatch) {
	forms := []struct {
		word  string
		value *string
		bound int
	}{{"exact", m.Exact, maxMatchBytes}, {"prefix", m.Prefix, maxMatchBytes}, {"regex", m.Regex, maxRegexBytes}}
	set := 0
	for _, form := range forms {
		if form.value == nil {
			continue
		}
		set++
		if *form.value == "" {
			v.fail(at+"."+form.word, "%s header value for %q must be non-empty", form.word, name)
		}
		if len(*form.value) > form.bound {
			v.fail(at+"."+form.word, "longer than %d bytes", form.bound)
		}
	}
	if set != 1 {
		v.fail(at, "unrecognized string match %q: write one of exact, prefix and regex", name)
	}
	if m.Regex != nil && len(*m.Regex) <= maxRegexBytes {
		if _, err := regexp.Compile(*m.Regex); err != nil {
			v.fail(at+".regex", "%v", err)
		} else if _, err := route.RegexSize(*m.Regex); err != nil {
			v.fail(at+".regex", "%v", err)
		}
	}
}

// headerToken is a header's name in lower case (RFC 9110 section 5.1).
var headerToken = lazily("^[-!#$%&'*+.^_`|~0-9a-z]+$")

func headerName(name string) error {
	switch {
	case name != strings.ToLower(name):
		return fmt.Errorf("header name %q invalid: must be in lower case", name)
	case !headerToken().MatchString(name):
		return fmt.Errorf("header name %q invalid", name)
	}
	return nil
}

func (v *validation) weights(spec *istio.RouteRuleSpec) {
	routes := spec.Route
	if len(routes) > maxRoutes {
		v.fail("spec.route", "more than %d routes", maxRoutes)
		return
	}
	total := int64(0)
	for i, route := range routes {
		at := fmt.Sprintf("spec.route[%d]", i)
		to := spec.Destination
		if route.Destination != nil {
			to = route.Destination
			v.outside(at, v.target(at+".destination", to, spec.Destination), spec, &route)
			if len(to.Labels) > 0 {
				v.fail(at+".destination.labels", "labels of a route belong beside its destination, not in it")
			}
		} else if to != nil {
			v.outside(at, outsideHost(to), spec, &route)
		}
		v.tags(at+".labels", route.Labels)
		v.percent(at+".weight", "weight invalid: ", float64(route.Weight))
		total += int64(route.Weight)
	}
	if len(routes) == 0 || len(routes) == 1 && total == 0 {
		return
	}
	if total != 100 {
		v.fail("spec.route", "route weights total %v (must total 100)", total)
	}
}

// outsideHost is what a valid reference names outside the mesh, "" for a service.
func outsideHost(s *istio.Service) string {
	return new(validation).routed("", s)
}

// outside validates a route to a host outside the mesh; host is "" where it is to a service.
func (v *validation) outside(at, host string, spec *istio.RouteRuleSpec, to *istio.DestinationWeight) {
	if host == "" {
		return
	}
	if len(to.Labels) > 0 {
		v.fail(at+".labels", outsideLabels, host)
	}
	if spec.Rewrite == nil || spec.Rewrite.Authority == "" || to.Destination == nil {
		return
	}
	authority, err := names.ParseHost(spec.Rewrite.Authority)
	if err == nil && authority.Name.String() != host {
		v.fail("spec.rewrite.authority", "%s is sent to %s by %s: a host outside the mesh is called by its own name", spec.Rewrite.Authority, host, at)
	}
}

func (v *validation) percent(at, prefix string, percent float64) {
	if percent < 0 || percent > 100 {
		v.fail(at, "%spercentage %v is not in range 0..100", prefix, percent)
	}
}

func (v *validation) redirect(spec *istio.RouteRuleSpec) {
	if len(spec.Route) > 0 {
		v.fail("spec.redirect", "rule cannot contain both route and redirect")
	}
	if spec.HTTPFault != nil {
		v.fail("spec.redirect", "rule cannot contain both fault and redirect")
	}
	if spec.Redirect.URI == "" && spec.Redirect.Authority == "" {
		v.fail("spec.redirect", "redirect must specify path, host, or both")
	}
	v.address("spec.redirect", spec.Redirect.URI, spec.Redirect.Authority)
}

// address validates the parts of a redirect or rewrite; ours.
func (v *validation) address(at, uri, authority string) {
	if uri != "" {
		v.failIf(at+".uri", httppath.CheckURI(uri))
	}
	if authority != "" {
		v.failIf(at+".authority", httpfield.CheckAuthority(authority))
	}
}

func (v *validation) appended(headers map[string]string) {
	if len(headers) > maxHeaders {
		v.fail("spec.appendHeaders", "more than %d headers", maxHeaders)
		return
	}
	size := 0
	for _, name := range sortedKeys(headers) {
		at := "spec.appendHeaders[" + name + "]"
		size += len(name) + len(headers[name])
		err := headerName(name)
		v.failIf(at, err)
		switch {
		case headers[name] == "":
			v.fail(at, "appended header %q must have a non-empty value", name)
		case err == nil:
			v.failIf(at, httpfield.CheckAppended(name, headers[name]))
		}
	}
	if size > maxAppendedBytes {
		v.fail("spec.appendHeaders", "names and values of more than %d bytes", maxAppendedBytes)
	}
}

func (v *validation) fault(fault *istio.HTTPFault) {
	if fault.Delay == nil && fault.Abort == nil {
		v.fail("spec.httpFault", "write delay, abort or both")
	}
	if d := fault.Delay; d != nil {
		v.percent("spec.httpFault.delay.percent", "percent invalid: ", float64(d.Percent))
		switch {
		case d.ExponentialDelay != "":
			v.fail("spec.httpFault.delay.exponentialDelay", "exponentialDelay not supported yet")
		default:
			v.duration("spec.httpFault.delay.fixedDelay", "fixedDelay invalid: ", d.FixedDelay)
		}
	}
	if a := fault.Abort; a != nil {
		v.percent("spec.httpFault.abort.percent", "percent invalid: ", float64(a.Percent))
		switch {
		case a.GRPCStatus != "":
			v.fail("spec.httpFault.abort.grpcStatus", "gRPC fault injection not supported yet")
		case a.HTTP2Error != "":
			v.fail("spec.httpFault.abort.http2Error", "HTTP/2 error injection not supported yet")
		case a.HTTPStatus < 0 || a.HTTPStatus > 600:
			v.fail("spec.httpFault.abort.httpStatus", "invalid abort http status %v", a.HTTPStatus)
		case a.HTTPStatus < 200 || a.HTTPStatus > 599:
			v.fail("spec.httpFault.abort.httpStatus", "invalid abort http status %v: it cannot be answered, use 200 to 599", a.HTTPStatus)
		}
	}
}

func (v *validation) cors(cors *istio.CorsPolicy) {
	const at = "spec.corsPolicy"
	v.corsList(at+".allowOrigin", cors.AllowOrigin, func(origin string) error {
		for i := range len(origin) {
			if c := origin[i]; c <= ' ' || c > '~' || c == ',' {
				return fmt.Errorf("origin %q invalid: write it as browsers do, such as https://www.example.com, or *", origin)
			}
		}
		return nil
	})
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"}
	v.corsList(at+".allowMethods", cors.AllowMethods, func(method string) error {
		if !slices.Contains(methods, method) {
			return fmt.Errorf("%q is not a supported HTTP method", method)
		}
		return nil
	})
	v.corsList(at+".allowHeaders", cors.AllowHeaders, func(name string) error { return headerName(strings.ToLower(name)) })
	v.corsList(at+".exposeHeaders", cors.ExposeHeaders, func(name string) error { return headerName(strings.ToLower(name)) })
	if c := cors.AllowCredentials; c != nil && *c && slices.Contains(cors.AllowOrigin, "*") {
		v.fail(at+".allowCredentials", "credentials cannot be allowed to any origin: list the origins in place of \"*\"")
	}
	if cors.MaxAge == "" {
		return
	}
	d, err := milliseconds(cors.MaxAge)
	v.failIf(at+".maxAge", err)
	switch {
	case err != nil:
	case d%time.Second != 0:
		v.fail(at+".maxAge", "max_age duration is accurate only to seconds precision")
	case d > maxCORSAge:
		v.fail(at+".maxAge", "longer than %v", maxCORSAge)
	}
}

// corsList validates one list of a CORS policy.
func (v *validation) corsList(at string, list []string, check func(string) error) {
	if len(list) > maxCORSValues || len(strings.Join(list, ",")) > maxCORSBytes {
		v.fail(at, "more than %d values, or than %d bytes of them", maxCORSValues, maxCORSBytes)
		return
	}
	for i, one := range list {
		if one == "" {
			v.fail(fmt.Sprintf("%s[%d]", at, i), "must be non-empty")
			continue
		}
		v.failIf(fmt.Sprintf("%s[%d]", at, i), check(one))
	}
}

// duration validates a duration; prefix begins the message.
func (v *validation) duration(at, prefix, text string) {
	d, err := milliseconds(text)
	switch {
	case err != nil:
		v.fail(at, "%s%v", prefix, err)
	case d > maxDuration:
		v.fail(at, "%slonger than %v", prefix, maxDuration)
	}
}

// milliseconds reads a duration of at least 1 ms without parts of one.
func milliseconds(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("bad duration %q", text)
	case d < time.Millisecond:
		return 0, errors.New("duration must be greater than 1ms")
	case d%time.Millisecond != 0:
		return 0, errors.New("only durations to ms precision are supported")
	}
	return d, nil
}

// sortedKeys returns the keys of a map in order, so that messages have one order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
