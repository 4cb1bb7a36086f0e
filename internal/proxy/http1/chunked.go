package http1

import "strconv"

// Bounds of the chunked coding, RFC 9112 §7.1.
const (
	maxSizeDigits   = 15       // of a chunk's size in hexadecimal: below 2^60
	maxExtension    = 256      // bytes of extensions of one chunk
	maxExtensions   = 16 << 10 // bytes of extensions of one body
	maxTrailerBytes = 8 << 10  // of the trailer section
)

type chunkState uint8

const (
	atSize      chunkState = iota // at the first digit of a size
	inSizeLine                    // at a further digit, blank, extension or CR
	inSizeBlank                   // after a blank behind the size
	inExtension                   // after ";"
	atSizeLF                      // after the CR of a size line
	inData
	atDataCR
	atDataLF
	inTrailer // lines up to an empty one
	atEndLF   // after the CR that ends a body without trailers
	chunksDone
	chunksBad
)

// chunkDecoder reads a chunked body in pieces, strictly: no bare LF, no sign, nothing
// overlong. Blanks may stand where RFC 9112 section 7.1.1 lets them, before and in an
// extension; many servers pad the size itself with them, so in an answer they may stand
// there too. None of it is sent on: the data is framed anew, without extensions.
type chunkDecoder struct {
	answer     bool // of an answer: blanks may stand behind a size that has no extension
	boundary   bool // of a request that leaves the mesh: no more may its trailers tell of it
	state      chunkState
	digits     uint8
	extension  int   // bytes of this chunk's
	extensions int   // bytes of all
	bad        cause // of chunksBad
	left       int64
	trailer    []byte // the section as it came, with its last CRLF
}

func (d *chunkDecoder) reset(answer bool) { *d = chunkDecoder{answer: answer} }

// decode reads b and moves the data in it to the front. It returns how many
// bytes of data those are and how many bytes of b it read: all, until the body
// has ended. bad is why it is not a chunked body, from the first such byte on.
func (d *chunkDecoder) decode(b []byte) (data, used int, bad cause) {
	i := 0
	for i < len(b) && d.state < chunksDone {
		if d.state == inData {
			n := int(min(d.left, int64(len(b)-i)))
			copy(b[data:], b[i:i+n])
			data += n
			i += n
			if d.left -= int64(n); d.left == 0 {
				d.state = atDataCR
			}
			continue
		}
		d.framing(b[i])
		i++
	}
	return data, i, d.bad
}

// fail ends the decoding.
func (d *chunkDecoder) fail(c cause) { d.state, d.bad = chunksBad, c }

// framing reads one byte that is not data.
func (d *chunkDecoder) framing(c byte) {
	switch d.state {
	case atSize, inSizeLine:
		d.sizeByte(c)
	case inSizeBlank:
		switch {
		case c == ';':
			d.state = inExtension
		case c == '\r' && d.answer:
			d.state = atSizeLF
		case c == '\n':
			d.fail(bareLF)
		case c != ' ' && c != '\t':
			d.fail(badChunkSize)
		default:
			d.countExtension()
		}
	case inExtension:
		switch {
		case c == '\r':
			d.state = atSizeLF
		case c == '\n':
			d.fail(bareLF)
		case class[c]&valueByte == 0:
			d.fail(byteInExtension)
		default:
			d.countExtension()
		}
	case atSizeLF:
		switch {
		case c != '\n':
			d.fail(chunkEnd)
		case d.left == 0:
			d.state = inTrailer
		default:
			d.state = inData
		}
	case atDataCR:
		d.expect(c, '\r', atDataLF, chunkOverrun)
	case atDataLF:
		d.expect(c, '\n', atSize, chunkEnd)
		d.digits, d.left, d.extension = 0, 0, 0
	case inTrailer:
		d.trailerByte(c)
	case atEndLF:
		d.expect(c, '\n', chunksDone, lastChunkEnd)
	}
}

// countExtension counts a byte of a size line that says nothing of the size.
func (d *chunkDecoder) countExtension() {
	d.extension++
	d.extensions++
	switch {
	case d.extension > maxExtension:
		d.fail(longExtension)
	case d.extensions > maxExtensions:
		d.fail(longExtensions)
	}
}

// expect goes on to then where c is the byte that must follow.
func (d *chunkDecoder) expect(c, want byte, then chunkState, otherwise cause) {
	if c != want {
		d.fail(otherwise)
		return
	}
	d.state = then
}

func (d *chunkDecoder) sizeByte(c byte) {
	switch {
	case class[c]&hexByte != 0:
		if d.digits == maxSizeDigits {
			d.fail(longChunkSize)
			return
		}
		d.digits++
		d.left = d.left<<4 | int64(hexValue(c))
		d.state = inSizeLine
	case d.digits == 0:
		d.fail(badChunkSize)
	case c == '\r':
		d.state = atSizeLF
	case c == ';':
		d.state = inExtension
	case c == ' ' || c == '\t':
		d.state = inSizeBlank
		d.countExtension()
	case c == '\n':
		d.fail(bareLF)
	default:
		d.fail(badChunkSize)
	}
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// trailerByte collects the trailer section; appendEnd checks what it says.
func (d *chunkDecoder) trailerByte(c byte) {
	if len(d.trailer) == 0 && c == '\r' {
		d.state = atEndLF
		return
	}
	if len(d.trailer) == maxTrailerBytes {
		d.fail(longTrailers)
		return
	}
	d.trailer = append(d.trailer, c)
	n := len(d.trailer)
	if c != '\n' {
		return
	}
	switch {
	case n < 2 || d.trailer[n-2] != '\r':
		d.fail(bareLF)
	case n >= 4 && d.trailer[n-3] == '\n':
		d.state = chunksDone
	}
}

// done says whether the body and its trailers were read to their end.
func (d *chunkDecoder) done() bool { return d.state == chunksDone }

// appendEnd appends the last chunk and the trailer fields that may pass:
// RFC 9110 §6.5.1. bad says that the trailers are malformed, or speak of the
// framing.
func (d *chunkDecoder) appendEnd(out []byte) (_ []byte, bad cause) {
	out = append(out, "0\r\n"...)
	if d.trailer == nil {
		return append(out, "\r\n"...), fine
	}
	section := new(head) // trailers are rare
	section.reset()
	// The decoder ended at the first empty line, so the section is whole.
	if _, bad := section.parseFields(d.trailer, 0, maxTrailerBytes, d.answer); bad != fine {
		return out, bad
	}
	section.raw = d.trailer
	for i := range section.fields[:section.count] {
		if !mayBeTrailer(section.fields[i].kind) {
			return out, framingInTrailers
		}
	}
	if bad := section.dropListed(); bad != fine {
		return out, bad
	}
	if d.boundary {
		section.dropOfMesh()
	}
	out = section.appendFields(out)
	return append(out, "\r\n"...), fine
}

// mayBeTrailer says whether a field may come after the body: none that says how
// the message is read, RFC 9110 §6.5.1.
func mayBeTrailer(kind fieldKind) bool {
	switch kind {
	case hostField, contentLengthField, transferEncodingField, bodyField, trailerField, expectField, signInField:
		return false
	}
	return true
}

// mayAllBeTrailers says so of the names in a Trailer field.
func mayAllBeTrailers(names []byte) bool {
	for more := true; more; {
		var name []byte
		name, names, more = nextInList(names)
		if !mayBeTrailer(kindOf(name)) {
			return false
		}
	}
	return true
}

// appendSize appends the line before n bytes of data.
func appendSize(out []byte, n int) []byte {
	return append(strconv.AppendUint(out, uint64(n), 16), "\r\n"...)
}
