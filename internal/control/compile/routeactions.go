package compile

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/internal/route"
)

// compileActions reads what a RouteRule does beside choosing where a request goes.
func compileActions(spec *istio.RouteRuleSpec, namespace, domain string) (route.Actions, error) {
	out := route.Actions{WebSocket: spec.WebsocketUpgrade}
	if m := spec.Mirror; m != nil {
		service, host, err := compileTarget(m, namespace, domain)
		if err != nil {
			return out, fmt.Errorf("mirror: %w", err)
		}
		out.Mirror = &route.Mirror{Service: service, Host: host, Labels: maps.Clone(m.Labels)}
	}
	if c := spec.CorsPolicy; c != nil {
		out.CORS = &route.CORS{
			Origins: slices.Clone(c.AllowOrigin), Methods: slices.Clone(c.AllowMethods), Headers: slices.Clone(c.AllowHeaders),
			Expose: slices.Clone(c.ExposeHeaders), Credentials: c.AllowCredentials,
		}
		if c.MaxAge != "" {
			age, err := time.ParseDuration(c.MaxAge)
			if err != nil {
				return out, fmt.Errorf("corsPolicy.maxAge invalid: %w", err)
			}
			out.CORS.MaxAge = age
		}
	}
	if r := spec.Redirect; r != nil {
		out.Redirect = &route.Redirect{URI: r.URI, Authority: r.Authority}
	}
	if r := spec.Rewrite; r != nil {
		out.Rewrite = &route.Rewrite{URI: r.URI, Authority: r.Authority}
	}
	for _, name := range slices.Sorted(maps.Keys(spec.AppendHeaders)) {
		out.Append = append(out.Append, route.Header{Name: name, Value: spec.AppendHeaders[name]})
	}
	if t := spec.HTTPReqTimeout; t != nil && t.SimpleTimeout != nil {
		timeout, err := time.ParseDuration(t.SimpleTimeout.Timeout)
		if err != nil {
			return out, fmt.Errorf("httpTimeout invalid: %w", err)
		}
		out.Timeout = timeout
	}
	if r := spec.HTTPReqRetries; r != nil && r.SimpleRetry != nil && r.SimpleRetry.Attempts != 0 {
		out.Retries = &route.Retries{Attempts: int(r.SimpleRetry.Attempts)}
		if text := r.SimpleRetry.PerTryTimeout; text != "" {
			each, err := time.ParseDuration(text)
			if err != nil {
				return out, fmt.Errorf("perTryTimeout invalid: %w", err)
			}
			out.Retries.Each = each
		}
	}
	if spec.HTTPFault == nil {
		return out, nil
	}
	if d := spec.HTTPFault.Delay; d != nil {
		if d.ExponentialDelay != "" {
			return out, fmt.Errorf("spec.httpFault.delay.exponentialDelay is not supported yet")
		}
		wait, err := time.ParseDuration(d.FixedDelay)
		if err != nil {
			return out, fmt.Errorf("fixedDelay invalid: %w", err)
		}
		if out.Delay, err = shared(d.Percent, func(s route.Share) *route.Delay { return &route.Delay{Share: s, For: wait} }); err != nil {
			return out, err
		}
	}
	if a := spec.HTTPFault.Abort; a != nil {
		if a.GRPCStatus != "" || a.HTTP2Error != "" {
			return out, fmt.Errorf("spec.httpFault.abort takes httpStatus alone: grpcStatus and http2Error are not supported yet")
		}
		var err error
		if out.Abort, err = shared(a.Percent, func(s route.Share) *route.Abort { return &route.Abort{Share: s, Status: int(a.HTTPStatus)} }); err != nil {
			return out, err
		}
	}
	return out, nil
}

// shared makes a fault for a share of the requests. As in Istio 0.5, a share of 0 is none,
// and one that is left out is 0.
func shared[T any](percent float32, fault func(route.Share) *T) (*T, error) {
	if !(percent >= 0 && percent <= 100) {
		return nil, fmt.Errorf("percent invalid: percentage %v is not in range 0..100", percent)
	}
	share := route.Share(math.Round(float64(percent) * float64(route.Whole) / 100))
	if share == 0 {
		return nil, nil
	}
	return fault(share), nil
}
