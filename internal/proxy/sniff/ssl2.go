package sniff

import "sluice.dev/sluice/internal/policy"

// parseSSL2 recognises the hello of SSL 2, and that form of SSL 3's and TLS 1.0's
// (RFC 5246 §E.2), to refuse it by its name; the lengths must add up, because
// many binary protocols begin with such a byte. Anything else is Opaque.
//
//	length 2 (high bit set), type 1, version 2, cipher_specs 2, session_id 2, challenge 2, …
func parseSSL2(b []byte) (Result, Need) {
	const header = 11
	if len(b) > 2 && b[2] != messageClientHello ||
		len(b) > 3 && b[3] != 3 && b[3] != 0 ||
		len(b) > 4 && b[3] == 0 && b[4] != 2 {
		return opaque()
	}
	if len(b) < header {
		return Result{Kind: policy.Opaque}, header
	}
	length := int(b[0]&0x7f)<<8 | int(b[1])
	suites := int(b[5])<<8 | int(b[6])
	session := int(b[7])<<8 | int(b[8])
	challenge := int(b[9])<<8 | int(b[10])
	if suites == 0 || suites%3 != 0 || session != 0 && session != 16 || challenge < 16 || challenge > 32 ||
		length != header-2+suites+session+challenge {
		return opaque()
	}
	return refuse(ErrOldHello)
}
