package follow

import (
	"strconv"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/route"
)

// Headers by which a workload sets, for one request, what a rule would say otherwise: those of
// Istio 0.5. They end at this proxy.
const (
	timeoutField = "x-envoy-upstream-rq-timeout-ms"
	retriesField = "x-envoy-max-retries"
)

// OverrideFields is them all, for whoever does not let its clients override anything.
var OverrideFields = []string{timeoutField, retriesField}

// overrides reads what one request overrides. What is no number is as if it were not there,
// as it was in Istio 0.5.
type overrides struct {
	timeout time.Duration // 0: not overridden
	retries int           // -1: not overridden
	found   bool          // one of the fields is there

	lookTimeout, lookRetries func(string) bool // made once, for a closure is an allocation
}

// read reads the fields of a request; the number of retries where there are some to override.
func (o *overrides) read(x *exchange.Request, retries bool) {
	if o.lookTimeout == nil {
		o.lookTimeout = func(value string) bool {
			o.found = true
			if n, err := strconv.ParseUint(value, 10, 32); err == nil {
				o.timeout = min(time.Duration(n)*time.Millisecond, route.MaxTimeout)
				if n == 0 { // no time-out, which is the longest that there is
					o.timeout = route.MaxTimeout
				}
			}
			return true
		}
		o.lookRetries = func(value string) bool {
			o.found = true
			if n, err := strconv.ParseUint(value, 10, 16); err == nil {
				o.retries = min(int(n), route.MaxAttempts)
			}
			return true
		}
	}
	o.timeout, o.retries, o.found = 0, -1, false
	x.Values(timeoutField, o.lookTimeout)
	if retries {
		x.Values(retriesField, o.lookRetries)
	}
}
