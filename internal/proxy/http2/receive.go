package http2

import "encoding/binary"

// What the reader does with each kind of frame, RFC 9113, section 6.

// unpadded takes the padding off a payload.
func unpadded(f frame, payload []byte) ([]byte, bool) {
	if !f.has(flagPadded) {
		return payload, true
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		return nil, false
	}
	return payload[1 : len(payload)-int(payload[0])], true
}

func (s *session) data(f frame, payload []byte) *fault {
	if f.stream == 0 {
		return broken(codeProtocol, "DATA without a stream")
	}
	body, ok := unpadded(f, payload)
	if !ok {
		return broken(codeProtocol, "more padding than payload")
	}
	if len(body) == 0 && !f.has(flagEndStream) {
		if bad := s.spend(); bad != nil {
			return bad
		}
	} else {
		s.useless.give(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.window -= f.length; s.window < 0 {
		return broken(codeFlowControl, "more DATA than the connection's window")
	}
	st := s.streams[f.stream]
	if st == nil || st.ended {
		s.consumed(f.length)
		return s.late(f.stream, st)
	}
	if st.window -= f.length; st.window < 0 {
		s.consumed(f.length)
		return broken(codeFlowControl, "more DATA than the stream's window").of(f.stream)
	}
	if padding := f.length - len(body); padding > 0 {
		st.consumed(padding)
	}
	if bad := st.receive(body, f.has(flagEndStream)); bad != nil {
		s.consumed(len(body))
		return bad.of(f.stream)
	}
	return nil
}

// late judges a frame for a stream that takes none. It is called with mu held.
func (s *session) late(id uint32, st *stream) *fault {
	switch {
	case st != nil:
		return broken(codeStreamClosed, "a frame after the end of its stream").of(id)
	case s.isIdle(id):
		return broken(codeProtocol, "a frame for a stream that was not begun")
	case s.client || s.wasReset(id): // we may end many streams before their server hears of it
		return s.spend()
	}
	return broken(codeStreamClosed, "a frame for a stream that has ended")
}

// isIdle reports whether nobody has begun a stream. It is called with mu held.
func (s *session) isIdle(id uint32) bool { return id > s.last || id%2 == 0 }

func (s *session) headers(f frame, payload []byte) *fault {
	if f.stream == 0 || f.stream%2 == 0 {
		return broken(codeProtocol, "HEADERS for a stream that no client begins")
	}
	b, ok := unpadded(f, payload)
	if !ok {
		return broken(codeProtocol, "more padding than payload")
	}
	s.block = block{stream: f.stream, ended: f.has(flagEndStream)}
	if f.has(flagPriority) {
		if len(b) < 5 {
			return broken(codeFrameSize, "HEADERS too short for a priority")
		}
		if binary.BigEndian.Uint32(b)&maxWindow == f.stream {
			s.block.bad = broken(codeProtocol, "a stream that depends on itself").of(f.stream)
		}
		b = b[5:]
	}
	s.section.reset(s.limits.MaxHeaderBytes)
	s.decoder.SetEmitEnabled(true)
	if !f.has(flagEndHeaders) {
		s.mu.Lock()
		s.blockSince = max(s.now(), 1)
		s.mu.Unlock()
	}
	return s.fragment(f, b)
}

func (s *session) continuation(f frame, payload []byte) *fault {
	if s.block.stream == 0 {
		return broken(codeProtocol, "CONTINUATION without HEADERS")
	}
	if s.block.frames++; s.block.frames > maxContinuations {
		return broken(codeCalm, "too many CONTINUATION frames")
	}
	if len(payload) == 0 {
		if bad := s.spend(); bad != nil {
			return bad
		}
	}
	return s.fragment(f, payload)
}

// fragment decodes a piece of a field block. Each is decoded to its end, whatever becomes of
// it, for the table of the connection depends on it.
func (s *session) fragment(f frame, b []byte) *fault {
	if s.block.size += len(b); s.block.size > maxBlockBytes {
		return broken(codeCalm, "a field block of more than 64 KiB")
	}
	if _, err := s.decoder.Write(b); err != nil {
		return broken(codeCompression, err.Error())
	}
	if s.section.over {
		s.decoder.SetEmitEnabled(false) // what is left is not even looked up
	}
	if !f.has(flagEndHeaders) {
		return nil
	}
	if err := s.decoder.Close(); err != nil {
		return broken(codeCompression, err.Error())
	}
	of := s.block
	s.block = block{}
	s.mu.Lock()
	s.blockSince = 0
	st := s.streams[of.stream]
	bad := of.bad
	switch {
	case st != nil && st.ended:
		bad = s.late(of.stream, st)
	case bad != nil && st == nil && !s.client:
		s.last = max(s.last, of.stream)
	}
	s.mu.Unlock()
	if bad == nil {
		bad = s.owner.headers(of.stream, st, of.ended)
	}
	s.section.reset(0)
	s.useless.give(1)
	return bad
}

func (s *session) peerResets(f frame, payload []byte) *fault {
	switch {
	case len(payload) != 4:
		return broken(codeFrameSize, "RST_STREAM of another size than four bytes")
	case f.stream == 0:
		return broken(codeProtocol, "RST_STREAM without a stream")
	}
	code := errorCode(binary.BigEndian.Uint32(payload))
	s.mu.Lock()
	if s.isIdle(f.stream) {
		s.mu.Unlock()
		return broken(codeProtocol, "RST_STREAM for a stream that was not begun")
	}
	st := s.streams[f.stream]
	if st == nil {
		s.mu.Unlock()
		return s.spend()
	}
	if s.client && st.ended { // its answer is whole: it wants no more of the request (RFC 9113, section 8.1)
		st.finished()
		st.writable.Broadcast()
		s.room.Broadcast()
		s.mu.Unlock()
		return nil
	}
	gone := st.fail(&resetError{code})
	answered := st.sentEnd
	s.drop(st)
	s.mu.Unlock()
	if gone != nil {
		gone()
	}
	if s.client || answered {
		return nil
	}
	return s.spendReset()
}

func (s *session) windowUpdate(f frame, payload []byte) *fault {
	if len(payload) != 4 {
		return broken(codeFrameSize, "WINDOW_UPDATE of another size than four bytes")
	}
	by := int(binary.BigEndian.Uint32(payload) & maxWindow)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.stream == 0 {
		switch {
		case by == 0:
			return broken(codeProtocol, "a WINDOW_UPDATE by nothing")
		case s.sendWindow+by > maxWindow:
			return broken(codeFlowControl, "a window beyond 2^31-1")
		}
		s.sendWindow += by
		s.room.Broadcast()
		return s.spendUpdate()
	}
	if s.isIdle(f.stream) {
		return broken(codeProtocol, "WINDOW_UPDATE for a stream that was not begun")
	}
	st := s.streams[f.stream]
	switch {
	case st == nil:
		return s.spend()
	case by == 0:
		return broken(codeProtocol, "a WINDOW_UPDATE by nothing").of(f.stream)
	case st.sendWindow+by > maxWindow:
		return broken(codeFlowControl, "a window beyond 2^31-1").of(f.stream)
	}
	st.sendWindow += by
	st.writable.Broadcast()
	return s.spendUpdate()
}

// spendUpdate counts a WINDOW_UPDATE, beyond those that answer what was sent. It is called
// with mu held.
func (s *session) spendUpdate() *fault {
	s.useless.give(float64(2 * s.sentFrames)) // one of the stream's, one of the connection's
	s.sentFrames = 0
	return s.spend()
}

func (s *session) takeSettings(f frame, payload []byte) *fault {
	switch {
	case f.stream != 0:
		return broken(codeProtocol, "SETTINGS for a stream")
	case f.has(flagAck) && len(payload) > 0, len(payload)%6 != 0:
		return broken(codeFrameSize, "SETTINGS of an invalid size")
	}
	if bad := s.spend(); bad != nil || f.has(flagAck) {
		return bad
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; len(payload) > 0; payload = payload[6:] {
		value := binary.BigEndian.Uint32(payload[2:])
		if bad := s.set(settingID(binary.BigEndian.Uint16(payload)), value); bad != nil {
			return bad
		}
	}
	if !s.settings {
		s.settings, s.blockSince = true, 0
	}
	s.out = appendFrame(s.out, 0, frameSettings, flagAck, 0)
	s.room.Broadcast()
	return s.overflows()
}

// set takes one setting of the peer's. It is called with mu held.
func (s *session) set(id settingID, value uint32) *fault {
	switch id {
	case settingHeaderTableSize:
		s.encoder.hpack.SetMaxDynamicTableSize(min(value, tableBytes))
	case settingEnablePush:
		if value > 1 || s.client && value != 0 {
			return broken(codeProtocol, "an invalid ENABLE_PUSH")
		}
	case settingMaxConcurrentStreams:
		more := value > s.peerMost
		if s.peerMost = value; more {
			s.owner.more()
		}
	case settingInitialWindowSize:
		if value > maxWindow {
			return broken(codeFlowControl, "an initial window beyond 2^31-1")
		}
		by := int(value) - s.peerWindow
		s.peerWindow = int(value)
		for _, st := range s.streams {
			if st.sendWindow += by; st.sendWindow > maxWindow {
				return broken(codeFlowControl, "a window beyond 2^31-1")
			}
			st.writable.Broadcast()
		}
	case settingMaxFrameSize:
		if value < maxFrame || value > 1<<24-1 {
			return broken(codeProtocol, "an invalid MAX_FRAME_SIZE")
		}
	case settingEnableConnect:
		if value > 1 || value == 0 && s.extended {
			return broken(codeProtocol, "an invalid ENABLE_CONNECT_PROTOCOL")
		}
		s.extended = value == 1
	}
	return nil
}

func (s *session) ping(f frame, payload []byte) *fault {
	switch {
	case len(payload) != 8:
		return broken(codeFrameSize, "PING of another size than eight bytes")
	case f.stream != 0:
		return broken(codeProtocol, "PING for a stream")
	}
	if bad := s.spend(); bad != nil || f.has(flagAck) {
		return bad
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = append(appendFrame(s.out, 8, framePing, flagAck, 0), payload...)
	return s.overflows()
}

// priority is deprecated and checked alone (RFC 9113, section 5.3).
func (s *session) priority(f frame, payload []byte) *fault {
	switch {
	case f.stream == 0:
		return broken(codeProtocol, "PRIORITY without a stream")
	case len(payload) != 5:
		return broken(codeFrameSize, "PRIORITY of another size than five bytes").of(f.stream)
	case binary.BigEndian.Uint32(payload)&maxWindow == f.stream:
		return broken(codeProtocol, "a stream that depends on itself").of(f.stream)
	}
	return s.spend()
}

func (s *session) goAway(f frame, payload []byte) *fault {
	switch {
	case f.stream != 0:
		return broken(codeProtocol, "GOAWAY for a stream")
	case len(payload) < 8:
		return broken(codeFrameSize, "GOAWAY of less than eight bytes")
	}
	s.owner.goneAway(binary.BigEndian.Uint32(payload)&maxWindow, errorCode(binary.BigEndian.Uint32(payload[4:])))
	return s.spend()
}
