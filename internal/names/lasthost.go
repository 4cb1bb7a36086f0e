package names

// LastHost reads the Host of one request after the other on one connection: as
// long as the spelling stays the same it neither parses nor allocates. The zero
// LastHost is ready; it is not safe for concurrent use and holds one spelling of
// at most MaxSpelling bytes.
type LastHost struct {
	spelling []byte
	host     Host
}

// Parse is ParseHost for bytes that are not kept.
func (l *LastHost) Parse(spelling []byte) (Host, error) {
	if string(spelling) == string(l.spelling) && !l.host.IsZero() {
		return l.host, nil
	}
	host, err := ParseHost(string(spelling))
	if err != nil {
		return Host{}, err
	}
	l.spelling, l.host = append(l.spelling[:0], spelling...), host
	return host, nil
}
