package http2

import "encoding/binary"

// The frames of RFC 9113, section 6. golang.org/x/net/http2 has a Framer, but links net/http
// and allocates for each frame; a header of nine bytes needs neither.

type frameType uint8

const (
	frameData         frameType = 0
	frameHeaders      frameType = 1
	framePriority     frameType = 2
	frameReset        frameType = 3
	frameSettings     frameType = 4
	framePushPromise  frameType = 5
	framePing         frameType = 6
	frameGoAway       frameType = 7
	frameWindowUpdate frameType = 8
	frameContinuation frameType = 9
)

// The bits of a frame's flags.
const (
	flagEndStream  = 0x1 // of DATA and HEADERS
	flagAck        = 0x1 // of SETTINGS and PING
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const (
	frameHeaderSize = 9
	// maxFrame is the largest payload that we take and send: the least that a peer may be
	// held to (RFC 9113, section 4.2).
	maxFrame = 16 << 10
	// preface is what a client says first (RFC 9113, section 3.4).
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

type settingID uint16

const (
	settingHeaderTableSize      settingID = 1
	settingEnablePush           settingID = 2
	settingMaxConcurrentStreams settingID = 3
	settingInitialWindowSize    settingID = 4
	settingMaxFrameSize         settingID = 5
	settingMaxHeaderListSize    settingID = 6
	settingEnableConnect        settingID = 8 // RFC 8441
)

// maxWindow bounds a flow-control window (RFC 9113, section 6.9.1).
const maxWindow = 1<<31 - 1

// frame is the header of one frame.
type frame struct {
	length int
	kind   frameType
	flags  uint8
	stream uint32
}

func (f *frame) has(flag uint8) bool { return f.flags&flag != 0 }

// parseFrame reads a header of nine bytes.
func parseFrame(b []byte) frame {
	return frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   frameType(b[3]),
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & maxWindow,
	}
}

// appendFrame appends the header of a frame.
func appendFrame(out []byte, length int, kind frameType, flags uint8, stream uint32) []byte {
	return append(out, byte(length>>16), byte(length>>8), byte(length), byte(kind), flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendReset(out []byte, stream uint32, code errorCode) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(out, 4, frameReset, 0, stream), uint32(code))
}

func appendWindowUpdate(out []byte, stream uint32, by int) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(out, 4, frameWindowUpdate, 0, stream), uint32(by))
}

func appendGoAway(out []byte, last uint32, code errorCode, why string) []byte {
	out = appendFrame(out, 8+len(why), frameGoAway, 0, 0)
	out = binary.BigEndian.AppendUint32(out, last)
	out = binary.BigEndian.AppendUint32(out, uint32(code))
	return append(out, why...)
}

type setting struct {
	id    settingID
	value uint32
}

func appendSettings(out []byte, of ...setting) []byte {
	out = appendFrame(out, 6*len(of), frameSettings, 0, 0)
	for _, s := range of {
		out = binary.BigEndian.AppendUint16(out, uint16(s.id))
		out = binary.BigEndian.AppendUint32(out, s.value)
	}
	return out
}
