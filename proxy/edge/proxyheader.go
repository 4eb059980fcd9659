package edge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// The PROXY protocol, version 2: section 2.2 of HAProxy's
// proxy-protocol.txt.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyFixed     = len(proxySignature) + 4 // up to and with the length
	// proxyRest bounds what follows the fixed part. An IPv6 header takes 36
	// bytes; the rest is room for type-length-values.
	proxyRest = 536
)

// Types of type-length-values whose content has a form to hold.
const (
	tlvALPN      = 0x01
	tlvAuthority = 0x02
	tlvCRC32C    = 0x03
	tlvSSL       = 0x20
)

var (
	// errProxyHeader is wrapped by every fault of a header.
	errProxyHeader = errors.New("invalid PROXY header")
	// errProxyShort says that more bytes are needed to tell.
	errProxyShort = errors.New("incomplete PROXY header")
)

func proxyFault(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errProxyHeader, fmt.Sprintf(format, args...))
}

// proxied is what a PROXY header says.
type proxied struct {
	// local: the peer speaks for itself, or names no address. The addresses
	// below are then the zero values.
	local    bool
	from, to netip.AddrPort
}

// parseProxy reads the header that b begins with and returns its length. It
// looks at no byte beyond. The error is errProxyShort while b may become a
// valid header, and wraps errProxyHeader when it cannot.
func parseProxy(b []byte) (proxied, int, error) {
	n := min(len(b), len(proxySignature))
	if string(b[:n]) != proxySignature[:n] {
		return proxied{}, 0, proxyFault("no signature of version 2")
	}
	if len(b) < proxyFixed {
		return proxied{}, 0, errProxyShort
	}
	command, family := b[12], b[13]
	size := int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case command != 0x20 && command != 0x21:
		return proxied{}, 0, proxyFault("version and command %#x", command)
	case size > proxyRest:
		return proxied{}, 0, proxyFault("%d bytes; %d is the limit", size, proxyRest)
	case len(b) < proxyFixed+size:
		return proxied{}, 0, errProxyShort
	}
	header := b[:proxyFixed+size]
	if command == 0x20 { // LOCAL: what follows is to be skipped
		return proxied{local: true}, len(header), nil
	}
	p, addresses, err := proxyAddresses(family, header[proxyFixed:])
	if err != nil {
		return proxied{}, 0, err
	}
	if err := checkTLVs(header, proxyFixed+addresses); err != nil {
		return proxied{}, 0, err
	}
	return p, len(header), nil
}

// proxyAddresses reads the address block of b and returns its length.
func proxyAddresses(family byte, b []byte) (proxied, int, error) {
	size := 0
	switch family {
	case 0x00:
		return proxied{local: true}, 0, nil
	case 0x11:
		size = 4
	case 0x21:
		size = 16
	default:
		return proxied{}, 0, proxyFault("family and transport %#x", family)
	}
	if len(b) < 2*size+4 {
		return proxied{}, 0, proxyFault("%d bytes for the addresses of family %#x", len(b), family)
	}
	from, _ := netip.AddrFromSlice(b[:size])
	to, _ := netip.AddrFromSlice(b[size : 2*size])
	ports := b[2*size:]
	return proxied{
		from: netip.AddrPortFrom(from.Unmap(), binary.BigEndian.Uint16(ports)),
		to:   netip.AddrPortFrom(to.Unmap(), binary.BigEndian.Uint16(ports[2:])),
	}, 2*size + 4, nil
}

// checkTLVs holds the type-length-values of a header, which begin at start,
// to their form. Nothing is taken from them.
func checkTLVs(header []byte, start int) error {
	for at := start; at < len(header); {
		kind, value, next, err := tlv(header, at)
		if err != nil {
			return err
		}
		ok := true
		switch kind {
		case tlvALPN, tlvAuthority:
			ok = len(value) > 0 && len(value) <= 255
		case tlvCRC32C:
			ok = len(value) == 4 && checksum(header, next-4) == binary.BigEndian.Uint32(value)
		case tlvSSL: // client flags, 4 bytes of verification result, values within
			ok = len(value) >= 5
			for sub := 5; ok && sub < len(value); {
				if _, _, sub, err = tlv(value, sub); err != nil {
					return err
				}
			}
		}
		if !ok {
			return proxyFault("value of type %#x with %d bytes", kind, len(value))
		}
		at = next
	}
	return nil
}

// tlv returns the type and value at an offset, and where the next begins.
func tlv(b []byte, at int) (kind byte, value []byte, next int, err error) {
	if len(b)-at < 3 {
		return 0, nil, 0, proxyFault("truncated value")
	}
	next = at + 3 + int(binary.BigEndian.Uint16(b[at+1:]))
	if next > len(b) {
		return 0, nil, 0, proxyFault("value of type %#x is longer than its header", b[at])
	}
	return b[at], b[at+3 : next], next, nil
}

// checksum is the CRC-32C of a header with its checksum, at an offset, taken
// as zero.
func checksum(header []byte, at int) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, header[:at])
	sum = crc32.Update(sum, table, make([]byte, 4))
	return crc32.Update(sum, table, header[at+4:])
}
