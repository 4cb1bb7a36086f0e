package sniff

import (
	"net"
	"time"
)

// AlertCode is the description of a TLS alert (RFC 8446 §6, RFC 6066 §3).
type AlertCode uint8

// The alerts that the proxy sends a TLS client.
const (
	AlertUnexpectedMessage AlertCode = 10
	AlertHandshakeFailure  AlertCode = 40
	AlertIllegalParameter  AlertCode = 47
	AlertAccessDenied      AlertCode = 49 // the rules deny it
	AlertDecodeError       AlertCode = 50
	AlertProtocolVersion   AlertCode = 70
	AlertInternalError     AlertCode = 80
	AlertUserCanceled      AlertCode = 90
	AlertUnrecognizedName  AlertCode = 112 // the server name is none that may be used here
)

// AlertLevel is the level of a TLS alert.
type AlertLevel uint8

// The levels; all that end a connection are fatal.
const (
	LevelWarning AlertLevel = 1
	LevelFatal   AlertLevel = 2
)

// Alert returns the plaintext record of an alert, as it may answer a ClientHello
// (RFC 8446 §5.1).
func Alert(level AlertLevel, code AlertCode) [7]byte {
	return [7]byte{0x15, versionTLS12 >> 8, versionTLS12 & 0xff, 0, 2, byte(level), byte(code)}
}

// Bounds on how long, and for how many bytes, a refused client is waited for.
const (
	maxLinger      = time.Second
	maxLingerBytes = 256 << 10
)

// Refuse answers a TLS client with a fatal alert and closes c so that the alert
// arrives: it sends FIN and reads on until the client hangs up, because closing a
// socket with unread bytes resets it and takes the alert along. It returns after
// at most a second.
func Refuse(c *net.TCPConn, code AlertCode) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(maxLinger)); err != nil {
		return err
	}
	alert := Alert(LevelFatal, code)
	if _, err := c.Write(alert[:]); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	var sink [4 << 10]byte
	for read := 0; read < maxLingerBytes; {
		n, err := c.Read(sink[:])
		if err != nil {
			return nil // the client hung up, or did not in time: both end it
		}
		read += n
	}
	return nil
}
