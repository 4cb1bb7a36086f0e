package http2

import (
	"fmt"
	"os"
)

// errorCode is one of RFC 9113, section 7.
type errorCode uint32

const (
	codeNone             errorCode = 0
	codeProtocol         errorCode = 1
	codeInternal         errorCode = 2
	codeFlowControl      errorCode = 3
	codeStreamClosed     errorCode = 5
	codeFrameSize        errorCode = 6
	codeRefused          errorCode = 7
	codeCancel           errorCode = 8
	codeCompression      errorCode = 9
	codeConnect          errorCode = 10
	codeCalm             errorCode = 11
	codeHTTP11Required   errorCode = 13
	unknownCode          errorCode = 14
	errorCodesEnd                  = unknownCode
	codeSettingsTimeout  errorCode = 4
	codeInadequateSafety errorCode = 12
)

var codeNames = [errorCodesEnd]string{
	codeNone: "NO_ERROR", codeProtocol: "PROTOCOL_ERROR", codeInternal: "INTERNAL_ERROR", codeFlowControl: "FLOW_CONTROL_ERROR",
	codeSettingsTimeout: "SETTINGS_TIMEOUT", codeStreamClosed: "STREAM_CLOSED", codeFrameSize: "FRAME_SIZE_ERROR",
	codeRefused: "REFUSED_STREAM", codeCancel: "CANCEL", codeCompression: "COMPRESSION_ERROR", codeConnect: "CONNECT_ERROR",
	codeCalm: "ENHANCE_YOUR_CALM", codeInadequateSafety: "INADEQUATE_SECURITY", codeHTTP11Required: "HTTP_1_1_REQUIRED",
}

func (c errorCode) String() string {
	if c < errorCodesEnd {
		return codeNames[c]
	}
	return fmt.Sprintf("error code %d", uint32(c))
}

// fault is why a connection, or one stream of it, ends.
type fault struct {
	code   errorCode
	stream uint32 // 0: the connection
	text   string
}

// Error implements error.
func (f *fault) Error() string { return f.code.String() + ": " + f.text }

func broken(code errorCode, text string) *fault { return &fault{code: code, text: text} }

func (f *fault) of(stream uint32) *fault { return &fault{f.code, stream, f.text} }

// resetError says that the peer ended a stream.
type resetError struct{ code errorCode }

// Error implements error.
func (e *resetError) Error() string { return "the peer reset the stream: " + e.code.String() }

// errAborted is of a stream that was aborted, or whose deadline has passed: its Timeout
// method reports true.
var errAborted error = os.ErrDeadlineExceeded
