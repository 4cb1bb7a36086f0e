package modules

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var index = Index{
	"nfnetlink":  {File: "net/netfilter/nfnetlink.ko", Aliases: []string{"net-pf-16-proto-12"}},
	"nf_tables":  {File: "net/netfilter/nf_tables.ko", Needs: []string{"nfnetlink"}, Aliases: []string{"nfnetlink-subsys-10"}},
	"nft_reject": {File: "net/netfilter/nft_reject.ko", Needs: []string{"nf_tables"}},
	"dummy":      {File: "drivers/net/dummy.ko", Aliases: []string{"rtnl-link-dummy", "virtio:d0000001v*"}},
}

func TestAModuleComesBehindWhatItNeeds(t *testing.T) {
	order, err := index.Order("nft-reject", "nf_tables", "dummy")
	if want := []string{"nfnetlink", "nf_tables", "nft_reject", "dummy"}; err != nil || !slices.Equal(order, want) {
		t.Errorf("order %v, %v; want %v", order, err, want)
	}
	below, err := index.Below("drivers/net/dummy.ko", "net/netfilter")
	if want := []string{"dummy", "nfnetlink", "nf_tables", "nft_reject"}; err != nil || !slices.Equal(below, want) {
		t.Errorf("below %v, %v; want %v", below, err, want)
	}
}

func TestModulesThatAreMissingOrNeedThemselvesAreErrors(t *testing.T) {
	for _, x := range []Index{{}, {"a": {Needs: []string{"b"}}}, {"a": {Needs: []string{"b"}}, "b": {Needs: []string{"a"}}}} {
		if order, err := x.Order("a"); err == nil {
			t.Errorf("%v: %v, want an error", x, order)
		}
	}
}

func TestAModuleIsFoundByNameAndByAlias(t *testing.T) {
	for name, want := range map[string]string{
		"nf-tables": "nf_tables", "nfnetlink-subsys-10": "nf_tables", "net-pf-16-proto-12": "nfnetlink",
		"virtio:d0000001v00001AF4": "dummy", "nfnetlink-subsys-1": "", "rtnl-link": "",
	} {
		if got := strings.Join(index.Find(name), " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestWhatIsNotAModuleIsRefused(t *testing.T) {
	for name, want := range map[string]string{"a.ko": "bad magic", "b.ko.xz": "compressed modules are not supported yet"} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, name), []byte("this is a text, and no module"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(folder); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
