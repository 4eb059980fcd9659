package http2

import (
	"encoding/binary"
	"strconv"
)

// Code says why a stream or a connection ended (RFC 9113, 7).
type Code uint32

// The codes of RFC 9113.
const (
	NoError Code = iota
	ProtocolError
	InternalError
	FlowControlError
	SettingsTimeout
	StreamClosed
	FrameSizeError
	RefusedStream
	Cancel
	CompressionError
	ConnectError
	EnhanceYourCalm
	InadequateSecurity
	HTTP11Required
)

// String returns the code's name as the RFC has it, or its number.
func (c Code) String() string {
	names := [...]string{
		"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
		"FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
		"INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
	}
	if int64(c) < int64(len(names)) {
		return names[c]
	}
	return strconv.FormatUint(uint64(c), 10)
}

// Error is why this side ended a connection. The client is told both parts.
type Error struct {
	Code   Code
	Reason string
}

// Error returns the code and the reason.
func (e *Error) Error() string { return e.Code.String() + ": " + e.Reason }

func fault(code Code, reason string) *Error { return &Error{code, reason} }

// kind is the type of a frame (RFC 9113, 6).
type kind uint8

const (
	kindData kind = iota
	kindHeaders
	kindPriority
	kindReset
	kindSettings
	kindPushPromise
	kindPing
	kindGoAway
	kindWindowUpdate
	kindContinuation
)

const (
	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const (
	frameHeader = 9       // bytes in front of a payload
	maxFrame    = 1 << 14 // of a payload, both ways: what every peer must take
	maxWindow   = 1<<31 - 1
	maxID       = 1<<31 - 1
	firstWindow = 65535 // of a stream or connection before anybody has said otherwise
)

// The settings that matter here (RFC 9113, 6.5.2, and RFC 9218, 2.1).
const (
	settingTableSize     = 0x1
	settingPush          = 0x2
	settingStreams       = 0x3
	settingWindow        = 0x4
	settingFrameSize     = 0x5
	settingHeaderList    = 0x6
	settingNoPriorities  = 0x9
	settingBytes         = 6
	defaultTableSize     = 4096
	largestMaxFrame      = 1<<24 - 1
	priorityPayloadBytes = 5
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// frame is one that was read. Its payload holds until the next is read.
type frame struct {
	kind    kind
	flags   uint8
	id      uint32
	payload []byte
}

func (f *frame) has(flag uint8) bool { return f.flags&flag != 0 }

// unpad takes padding off a payload (RFC 9113, 6.1).
func (f *frame) unpad() ([]byte, *Error) {
	p := f.payload
	if !f.has(flagPadded) {
		return p, nil
	}
	if len(p) == 0 {
		return nil, fault(FrameSizeError, "padding without its length")
	}
	pad := int(p[0])
	if pad >= len(p) {
		return nil, fault(ProtocolError, "more padding than payload")
	}
	return p[1 : len(p)-pad], nil
}

func appendFrame(b []byte, length int, k kind, flags uint8, id uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), byte(k), flags)
	return binary.BigEndian.AppendUint32(b, id)
}

func appendSetting(b []byte, id uint16, value int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), uint32(value))
}

func appendReset(b []byte, id uint32, code Code) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(b, 4, kindReset, 0, id), uint32(code))
}

func appendWindowUpdate(b []byte, id uint32, n int) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(b, 4, kindWindowUpdate, 0, id), uint32(n))
}

func appendPing(b []byte, flags uint8, data []byte) []byte {
	return append(appendFrame(b, len(data), kindPing, flags, 0), data...)
}

func appendGoAway(b []byte, last uint32, code Code, reason string) []byte {
	b = appendFrame(b, 8+len(reason), kindGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, reason...)
}
