package http1

// What is for one hop alone, RFC 9110 §7.6.1, and does not pass.

// noteConnection reads the options of one Connection field, RFC 9110 §7.6.1.
func (h *head) noteConnection(value []byte) cause {
	for more := true; more; {
		var option []byte
		option, value, more = nextInList(value)
		switch {
		case len(option) == 0:
		case !all(option, tokenByte):
			return badOption
		case equalFold(option, "close"):
			h.closes = true
		case equalFold(option, "keep-alive"):
			h.keepAlive = true
		case equalFold(option, "upgrade"):
			h.wantsUpgrade = true
		default:
			h.lists = true
		}
	}
	return fine
}

// dropListed drops the fields that a Connection field names. One that names
// what every recipient needs would make two readers of one head.
func (h *head) dropListed() cause {
	if !h.lists {
		return fine
	}
	for i := range h.fields[:h.count] {
		if h.fields[i].kind != connectionField {
			continue
		}
		value := h.bytes(h.fields[i].value)
		for more := true; more; {
			var option []byte
			option, value, more = nextInList(value)
			if !mayBeListed(option) {
				return optionNamesField
			}
			h.dropNamed(option)
		}
	}
	return fine
}

func (h *head) dropNamed(name []byte) {
	for i := range h.fields[:h.count] {
		f := &h.fields[i]
		if !f.drop && equalFoldBytes(f.name(h.raw), name) {
			f.drop = true
			h.dropped++
		}
	}
}

// mayBeListed says whether a Connection field may name the field.
func mayBeListed(name []byte) bool {
	switch kindOf(name) {
	case hostField, contentLengthField, transferEncodingField, expectField, bodyField:
		return false
	case otherField, signInField:
		return !equalFold(name, "authorization") && !equalFold(name, "cookie") && !equalFold(name, "set-cookie") &&
			!equalFold(name, "cache-control") && !equalFold(name, "location")
	}
	return true
}

// dropEditable drops the fields of that name, given in lower case, which a
// Director may edit, and those that may be taken for it.
func (h *head) dropEditable(lower string) {
	for i := range h.fields[:h.count] {
		f := &h.fields[i]
		if !f.drop && foldsTo(f.name(h.raw), lower) {
			f.drop = true
			h.dropped++
		}
	}
}

// upgradesTo says whether the head asks for, or grants, another protocol.
// h2c is never one of them: its frames would pass unread.
func (h *head) upgradesTo() (string, bool) {
	if !h.wantsUpgrade || h.upgrades != 1 || h.http10 || h.upgrade.from == h.upgrade.to {
		return "", false
	}
	protocol := h.bytes(h.upgrade)
	for _, c := range protocol {
		if class[c]&tokenByte == 0 && c != '/' {
			return "", false // several, or none
		}
	}
	if equalFold(protocol, "h2c") {
		return "", false
	}
	return h.text(h.upgrade), true
}
