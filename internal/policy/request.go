package policy

import (
	"slices"
	"strings"

	"sluice.dev/sluice/internal/httppath"
	"sluice.dev/sluice/internal/refusal"
)

// NeedsRequest reports whether the rule allows only some requests, so that it
// can carry nothing whose method and path are hidden.
func (r *Rule) NeedsRequest() bool {
	return len(r.HTTP) > 0 && !slices.ContainsFunc(r.HTTP, func(m HTTPMatch) bool {
		return len(m.Methods) == 0 && len(m.Paths) == 0 && len(m.Upgrades) == 0
	})
}

// allowsRequest returns "" where one alternative of the rule holds, else why none
// does. The method is compared byte by byte (RFC 9110 section 9.1: methods are
// case-sensitive), the path without its query as it will be sent. A rule that
// names paths allows no path that is not normal: what we compare must be
// what every server in the world understands. What a request asks to change to is
// no longer read by anybody, so an alternative on some requests lists what it may
// be.
func (r *Rule) allowsRequest(c *Chain) refusal.Reason {
	if len(r.HTTP) == 0 {
		return ""
	}
	reason := refusal.MethodOrPath
	normal := httppath.IsNormal(c.Path)
	for i := range r.HTTP {
		m := &r.HTTP[i]
		if len(m.Methods) > 0 && !slices.Contains(m.Methods, c.Method) {
			continue
		}
		if len(m.Paths) > 0 && !(normal && httppath.Matches(m.Paths, c.Path)) {
			continue
		}
		if m.allowsUpgrade(c.Upgrade) {
			return ""
		}
		reason = refusal.UpgradeForbidden
	}
	return reason
}

// allowsUpgrade reports whether a request may ask to change to a protocol, whose
// names are compared without case (RFC 9110 section 7.8).
func (m *HTTPMatch) allowsUpgrade(protocol string) bool {
	if protocol == "" || len(m.Methods) == 0 && len(m.Paths) == 0 && len(m.Upgrades) == 0 {
		return true
	}
	return slices.ContainsFunc(m.Upgrades, func(listed string) bool { return strings.EqualFold(listed, protocol) })
}
