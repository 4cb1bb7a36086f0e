package policy

import "sluice.dev/sluice/internal/refusal"

// AuditRule is the ID of what lets pass what no rule allows, where the outbound
// default is Audit. It stands in records as a rule's ID does.
const AuditRule = "mesh-config/outboundDefault=Audit"

// audits reports whether what no rule allows passes, to be seen.
func (s *Set) audits() bool { return s.outbound == Audit }

// audit lets a connection or request pass that no rule allows. It lifts NoRule
// alone: the name chain was checked, and only public addresses may be dialled.
func (s *Set) audit(c *Chain, v *Verdict) {
	treatment, protocol := Relay, ProtocolTCP
	switch {
	case c.Sniffed == ClientHello:
		treatment, protocol = Passthrough, ProtocolHTTPS
	case c.Sniffed == HTTP && SpeaksTLS(c.Port):
		treatment, protocol = Originate, ProtocolHTTPS
	case c.Sniffed == HTTP && c.HTTPS:
		v.Reason = refusal.SchemeMismatch
		return
	case c.Sniffed == HTTP:
		treatment, protocol = Forward, ProtocolHTTP
	}
	v.Action, v.Treatment, v.Protocol = Audit, treatment, protocol
	v.Rule, v.Consent = &s.auditRule, Consent{&s.auditConsent}
}

// SpeaksTLS reports whether servers on a TCP port are taken to speak TLS, where
// nothing but the port tells: plain HTTP to it is meant to be sent over TLS.
func SpeaksTLS(port uint16) bool { return port == 443 || port == 8443 }
