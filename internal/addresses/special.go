package addresses

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/gaissmai/bart"
)

//go:embed special.csv
var specialCSV string

// Block is a range of special addresses: such as a name must not lead to unless a
// rule consents.
type Block struct {
	Prefix netip.Prefix
	Name   string // as its registry names it: "Private-Use"
	Source string // where it is defined: "RFC 1918"
}

// String reads "10.0.0.0/8 (Private-Use, RFC 1918)".
func (b Block) String() string { return fmt.Sprintf("%s (%s, %s)", b.Prefix, b.Name, b.Source) }

// row is a block and the registry that lists it.
type row struct {
	Block
	// space says that the block is not set aside for a purpose, only not assigned:
	// to allow all of it says nothing about the rows inside.
	space bool
}

// rows is read when it is first asked for, not when the program starts.
var rows = sync.OnceValue(func() *bart.Table[*row] {
	all, err := readRows(specialCSV)
	if err != nil {
		panic("internal/addresses: " + err.Error()) // embedded: a test reads it
	}
	table := new(bart.Table[*row])
	for i := range all {
		table.Insert(all[i].Prefix, &all[i])
	}
	return table
})

// readRows reads the table; each error names its line.
func readRows(text string) ([]row, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.Comment, r.FieldsPerRecord = '#', 4
	records, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read special addresses: %w", err)
	}
	all := make([]row, len(records))
	for i, record := range records {
		prefix, err := netip.ParsePrefix(record[1])
		if err != nil || prefix != prefix.Masked() {
			return nil, fmt.Errorf("read special addresses: %q is not a valid prefix", record[1])
		}
		all[i] = row{Block{prefix, record[2], record[3]}, record[0] == "space"}
	}
	return all, nil
}

// Special returns the narrowest block that holds a. Every IPv6 address outside
// 2000::/3 is in one, and every IPv4-mapped address, whatever it holds: callers that
// judge the IPv4 address inside unmap it, knowing that they do. A zone is ignored.
func Special(a netip.Addr) (Block, bool) {
	r, ok := rows().Lookup(a.WithZone(""))
	if !ok {
		return Block{}, false
	}
	return r.Block, true
}

// InOneBlock reports whether p lies wholly inside one block of special addresses.
// Only such a range is consent to them: whoever allows 10.1.0.0/16 means private
// addresses, whoever allows 10.0.0.0/7 or 0.0.0.0/0 means the internet. A range of
// unassigned IPv6 space is consent to itself, but not where a block with a purpose
// lies inside: 200::/7 is, ::/8 is not, for it holds ::1.
func InOneBlock(p netip.Prefix) bool {
	r, ok := rows().LookupPrefix(p)
	if !ok || !r.space {
		return ok
	}
	for inside := range rows().Subnets(p) {
		if inside != r.Prefix {
			return false
		}
	}
	return true
}

// OverlapsSpecial reports whether p holds any special address.
func OverlapsSpecial(p netip.Prefix) bool { return rows().OverlapsPrefix(p) }

// SpecialInside returns a block of special addresses that p holds wholly, for texts:
// one that consent opens and that is set aside for a purpose, where there is one.
func SpecialInside(p netip.Prefix) (Block, bool) {
	for _, r := range rows().Subnets(p) {
		if !r.space && !Undialable(r.Prefix.Addr()) {
			return r.Block, true
		}
	}
	return Block{}, false
}
