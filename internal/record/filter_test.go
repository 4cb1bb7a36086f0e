package record

import "testing"

func TestSumsOfAServiceAreThoseOfItsVersionsAlone(t *testing.T) {
	for workload, want := range map[string]bool{
		"web": true, "web-v1": true, "web-v12": true, "web-v2.1-beta": true,
		"web-vault": false, "web-vault-v1": false, "web-v2ray-v1": false, "web-api-v1": false, "web-v": false, "webs-v1": false, "other": false,
	} {
		if got := (&SumFilter{Workload: "web"}).Match(&Sum{SumKey: SumKey{Workload: workload}}); got != want {
			t.Errorf("%s: %t", workload, got)
		}
	}
	if !(&SumFilter{Workload: "web-vault"}).Match(&Sum{SumKey: SumKey{Workload: "web-vault-v1"}}) {
		t.Error("web-vault-v1 is not of web-vault")
	}
}
