package shape

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Name  string `json:"name,omitempty"`
	Inner *inner `json:"inner,omitempty"`
}

type embedded struct {
	At time.Time `json:"at,omitzero"`
}

type outer struct {
	embedded
	Ports   []uint16         `json:"ports"`
	ByName  map[string]inner `json:"byName"`
	Address netip.Addr       `json:"address"`
	Plain   bool
	Hidden  string `json:"-"`
	private int
}

func TestEveryMemberThatIsWrittenIsListed(t *testing.T) {
	var b strings.Builder
	list(&b, "outer", reflect.TypeOf(outer{private: 1}), nil)
	const want = `outer.at time.Time
outer.ports[] uint16
outer.byName{}.name string
outer.byName{}.inner shape.inner again
outer.address netip.Addr
outer.Plain bool
`
	if b.String() != want {
		t.Errorf("listed:\n%s", b.String())
	}
}

func TestWhatChangedIsShown(t *testing.T) {
	if got := difference("format 1\na string\nb int\n", "format 1\na string\nc int\n"); got != "- b int\n+ c int\n" {
		t.Errorf("got %q", got)
	}
}
