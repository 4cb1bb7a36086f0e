package sniff

import "sluice.dev/sluice/internal/policy"

// parseTLS reads handshake records until they hold one whole ClientHello.
//
// Servers take more for a hello than clients send: Java's takes a record of any version,
// Go's nearly any, OpenSSL's skips empty records before the hello, and Go's and Java's
// skip warnings. What one of them takes is a hello, and refused where it is not as clients
// send it (ErrHelloOdd): whoever took it for bytes would let a name pass unseen. The
// message's type must be there, for there are binary protocols whose first byte is 0x16
// too. What no server at all could take for a hello is Opaque, with the reason in Err.
func parseTLS(b []byte) (Result, Need) {
	lead, need := skippedRecords(b)
	const first = recordHeaderLen + 1 // up to the message's type
	switch {
	case lead > maxSkipped:
		return refuse(ErrHelloOdd)
	case need != 0:
		return needHello(int(need))
	case b[lead] != recordHandshake:
		return opaque()
	case len(b) < lead+first:
		return needHello(lead + first)
	case b[lead+first-1] != messageClientHello:
		return opaque()
	}
	r, need := parseRecords(b, lead)
	if odd := lead > 0 || b[lead+1] != 3; odd && need == 0 && r.Kind == policy.ClientHello {
		return refuse(ErrHelloOdd)
	}
	return r, need
}

// skippedRecords returns the length of the records that b begins with and that some
// server skips before a hello: empty ones, and warnings. Where what is there of another
// record may become such a one it needs more.
func skippedRecords(b []byte) (lead int, need Need) {
	for {
		rest := b[lead:]
		length := recordHeaderLen
		if len(rest) > 0 && rest[0] == recordAlert {
			length = len(alertRecord)
		}
		if lead > maxSkipped {
			return lead, 0
		}
		for i, c := range rest[:min(len(rest), length)] {
			fits := i == 0 && (c == recordHandshake || c == recordAlert) ||
				i == 1 || i == 2 || i == 6 || // the version, and which warning it is
				i > 2 && (rest[0] == recordHandshake && c == 0 || rest[0] == recordAlert && c == alertRecord[i])
			if !fits {
				return lead, 0
			}
		}
		if len(rest) < length {
			return lead, Need(lead + length)
		}
		lead += length
	}
}

// alertRecord is the record of a warning.
var alertRecord = [...]byte{recordAlert, 3, 3, 0, 2, byte(LevelWarning), 0}

// parseRecords reads the ClientHello whose records begin at pos.
func parseRecords(b []byte, pos int) (Result, Need) {
	var (
		start  = pos
		header [messageHeaderLen]byte
		got    int // bytes of the message in the records before pos
		total  int // bytes of the message with its header, once that was seen
	)
	for {
		// Here got < total, or total is not known: at least one record is missing.
		if len(b) > pos && !isRecord(b[pos]) {
			return notTLS(ErrHelloRecord)
		}
		if len(b)-pos < recordHeaderLen {
			return needHello(pos + recordHeaderLen + remaining(got, total))
		}
		n := recordLength(b[pos:])
		if early := pos + recordHeaderLen + messageHeaderLen - got; n > maxRecord && len(b) < early {
			return needHello(early) // its header may say that it is none
		}
		payload := b[pos+recordHeaderLen : min(pos+recordHeaderLen+n, len(b))]
		if b[pos] == recordHandshake && got < messageHeaderLen {
			if filled := got + copy(header[got:], payload); filled == messageHeaderLen {
				total = messageHeaderLen + int(header[1])<<16 + int(header[2])<<8 + int(header[3])
			}
		}
		switch {
		case total != 0 && total < messageHeaderLen+minHello:
			return notTLS(ErrHelloLength)
		case total > messageHeaderLen+maxServerHello:
			return notTLS(ErrHelloTooLong)
		case pos > start && !mayFollow(b[pos], n):
			return notTLS(ErrHelloRecord)
		case b[pos] != recordHandshake, b[pos+1] != b[start+1], n == 0, n > maxRecord:
			return refuse(ErrHelloRecord)
		}
		got += n
		pos += recordHeaderLen + n
		if total != 0 && got > total {
			if len(b) < pos {
				return needHello(pos)
			}
			// What stands behind it is the server's to mind, if it minds the hello.
			if r, _ := parseHello(joinRecords(b[start:pos], got)[messageHeaderLen:total], pos); r.Kind == policy.Opaque {
				return r, 0
			}
			return refuse(ErrHelloTrailing)
		}
		if pos > len(b) || got != total {
			need := pos
			if rest := total - got; total != 0 && rest > 0 {
				need += rest + recordHeaderLen*((rest+maxRecord-1)/maxRecord)
			}
			switch {
			case need > MaxHello:
				return beyond(b, pos)
			case len(b) < pos:
				return needHello(need)
			}
			continue
		}
		if pos > MaxHello {
			return refuse(ErrHelloTooLong)
		}
		return parseHello(joinRecords(b[start:pos], total)[messageHeaderLen:], pos)
	}
}

// isRecord reports whether a record of TLS may begin so.
func isRecord(contentType byte) bool {
	return recordLowest <= contentType && contentType <= recordHighest
}

// mayFollow reports whether a record of that type and length may follow one of a hello, to
// some server. A change of ciphers is one byte, an alert two at the most, and no server
// takes more in one record than Java's, which takes twice of what there should be.
func mayFollow(contentType byte, n int) bool {
	switch contentType {
	case recordChangeCipher:
		return n == 1
	case recordAlert:
		return n == 1 || n == 2
	case recordData: // before there is a key
		return false
	}
	return n <= 2*maxRecord+1024
}

// beyond says what a hello is that will not fit: too long, unless the record at pos, the
// next one, shows that it is none.
func beyond(b []byte, pos int) (Result, Need) {
	switch {
	case pos >= MaxHello:
	case len(b) <= pos:
		return needHello(pos + 1)
	case !isRecord(b[pos]):
		return notTLS(ErrHelloRecord)
	}
	return refuse(ErrHelloTooLong)
}

// remaining is a lower bound on the payload that is still to come in further
// records, without the header of the next one.
func remaining(got, total int) int {
	if total == 0 {
		return 1
	}
	rest := total - got
	return rest + recordHeaderLen*((rest+maxRecord-1)/maxRecord-1)
}

func needHello(need int) (Result, Need) {
	if need > MaxHello {
		return refuse(ErrHelloTooLong)
	}
	return Result{Kind: policy.ClientHello}, Need(need)
}

// joinRecords returns the payload of the records in b, which is the message
// whole. One record, as nearly all clients send, is not copied.
func joinRecords(b []byte, total int) []byte {
	if len(b) == recordHeaderLen+total {
		return b[recordHeaderLen:]
	}
	message := make([]byte, 0, total)
	for len(b) > 0 {
		end := recordHeaderLen + recordLength(b)
		message = append(message, b[recordHeaderLen:end]...)
		b = b[end:]
	}
	return message
}

func recordLength(b []byte) int { return int(b[3])<<8 | int(b[4]) }
