package policy

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
)

// policyYAML writes a rule down as an EgressPolicy for one workload. Every string
// that the rule or a stranger chose is quoted as JSON, which is YAML.
func policyYAML(rule *Rule, opts ExplainOptions) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("apiVersion: sluice.dev/v1alpha1")
	line("kind: EgressPolicy")
	line("metadata:")
	line("  name: %s", quote(objectName(rule, opts)))
	line("  namespace: %s", quote(opts.namespace()))
	line("spec:")
	if len(opts.Labels) > 0 {
		line("  from:")
		line("    labels:")
		for _, key := range slices.Sorted(maps.Keys(opts.Labels)) {
			line("      %s: %s", quote(key), quote(opts.Labels[key]))
		}
	}
	line("  to:")
	list(line, "    hosts: ", rule.Hosts)
	list(line, "    cidrs: ", rule.CIDRs)
	line("    ports:")
	for _, p := range rule.Ports {
		line("    - port: %d", p.Port)
		line("      protocol: %s", p.Protocol)
	}
	list(line, "  privateAnswers: ", rule.PrivateAnswers)
	if rule.TLS != (TLS{Mode: TLSAuto}) {
		line("  tls:")
		if rule.TLS.Mode != TLSAuto {
			line("    mode: %s", rule.TLS.Mode)
		}
		if !rule.TLS.ServerName.IsZero() {
			line("    serverName: %s", quote(rule.TLS.ServerName.String()))
		}
		if rule.TLS.CABundle != "" {
			line("    caBundle: %s", quote(rule.TLS.CABundle))
		}
	}
	if len(rule.HTTP) > 0 {
		line("  http:")
		for _, m := range rule.HTTP {
			bullet := "  - "
			if len(m.Methods) > 0 {
				line("%smethods: %s", bullet, quote(m.Methods))
				bullet = "    "
			}
			list(line, bullet+"paths: ", m.Paths)
		}
	}
	return b.String()
}

// list writes a key with a list in one line, or nothing for an empty list.
func list[T any](line func(string, ...any), key string, values []T) {
	if len(values) > 0 {
		line("%s%s", key, quote(values))
	}
}

// quote returns v as JSON, without the escapes that are for HTML.
func quote(v any) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return `""` // strings and texts of our own: it cannot fail
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// namespace returns the workload's namespace.
func (o *ExplainOptions) namespace() string {
	if o.Namespace == "" {
		return "default"
	}
	return o.Namespace
}

// objectName makes a name that Kubernetes takes (RFC 1123, here one label of at
// most 63) out of the workload and what the rule allows. Where that is not all
// that the rule says, or had to be cut, a hash follows, so that two do not meet.
func objectName(rule *Rule, opts ExplainOptions) string {
	who := opts.Labels["app"]
	if version := opts.Labels["version"]; who != "" && version != "" {
		who += "-" + version
	}
	if who == "" {
		who = "allow"
	}
	name := dashed(who + "-" + strings.ReplaceAll(allowForm(rule), "*", "any"))
	plain := len(rule.Ports) == 1 && len(rule.HTTP) == 0 && len(rule.PrivateAnswers) == 0 && rule.TLS == TLS{Mode: TLSAuto}
	const bound, hashed = 63, 9
	if plain && len(name) <= bound {
		return name
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(quote([]any{who, allowForm(rule), rule.Ports, rule.HTTP, rule.PrivateAnswers, rule.TLS})))
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
