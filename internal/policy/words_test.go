package policy

import "testing"

func TestVerdictsReadWell(t *testing.T) {
	s := newSet(t, rule("r", googleapis, "443/https"), rule("net", "2001:db8::/32", "22/tcp"))
	for want, c := range map[string]Chain{
		"allow www.googleapis.com:443 by r (passthrough)": dialled(googleapis, 443).tls(googleapis),
		"deny www.google.com:443: no-rule":                dialled(google, 443).tls(google),
		"allow [2001:db8::1]:22 by net (relay)":           dialledAddr("2001:db8::1", 22).opaque(),
	} {
		if got := s.Decide(&c).String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
