package cli

import "testing"

func TestTheNearestWordForATypeIsFound(t *testing.T) {
	for word, want := range map[string]string{
		"egresrules": "egressrules", "egressrul": "egressrule", "routrule": "routerule", "meshconfg": "meshconfig",
		"egresspolices": "egresspolicies", "pod": "", "": "", "gateways": "",
	} {
		if got := nearest(word); got != want {
			t.Errorf("%q is taken for %q, want %q", word, got, want)
		}
	}
}
