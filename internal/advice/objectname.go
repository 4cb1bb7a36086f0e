package advice

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/policy"
)

// objectName makes a name that Kubernetes takes (RFC 1123, here one label of at
// most 63) out of the workload and what the rule allows. Where that is not all
// that the policy says, or had to be cut, a hash follows, so that no two policies
// get one name.
func objectName(rule *policy.Rule, opts *Options) string {
	who := opts.Labels["app"]
	if version := opts.Labels["version"]; who != "" && version != "" {
		who += "-" + version
	}
	if who == "" {
		who = "allow"
	}
	form := allowForm(rule) // with the protocol, where the port does not say it
	plain := form != "" && !slices.ContainsFunc(slices.Collect(maps.Keys(opts.Labels)), func(key string) bool { return key != "app" && key != "version" })
	name := dashed(who + "-" + strings.ReplaceAll(cmp.Or(form, destinationText(rule)), "*", "any"))
	const bound, hashed = 63, 9
	if plain && len(name) <= bound {
		return name
	}
	hash := fnv.New32a()
	if err := json.NewEncoder(hash).Encode([]any{opts.Labels, rule.Hosts, rule.CIDRs, rule.Ports, rule.HTTP, rule.PrivateAnswers, rule.TLS}); err != nil {
		hash.Write([]byte(name)) // strings and numbers alone: it cannot be
	}
	name = strings.TrimRight(name[:min(len(name), bound-hashed)], "-")
	return fmt.Sprintf("%s-%08x", name, hash.Sum32())
}

// dashed replaces what an object's name may not hold by single hyphens.
func dashed(text string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if n := b.Len(); n > 0 && b.String()[n-1] != '-' {
			b.WriteByte('-')
		}
	}
	return strings.TrimRight(b.String(), "-")
}
