package policy

import (
	"bytes"
	"encoding/json"
	"errors"
)

// UnmarshalJSON reads a port that a proxy is sent. Unknown fields are refused, and
// so is a port that does not say its number and protocol: what is not said grants
// nothing, and must not pass for something.
func (p *Port) UnmarshalJSON(b []byte) error {
	type plain Port // without this method
	var read plain
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&read); err != nil {
		return err
	}
	if read.Port == 0 || read.Protocol == ProtocolNone {
		return errors.New("a port of a rule lacks its number or its protocol")
	}
	*p = Port(read)
	return nil
}
