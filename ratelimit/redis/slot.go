package redis

import "strings"

// slots is how many slots a Cluster has.
const slots = 16384

// slot returns the slot of a key, or of what stands between its braces: its
// CRC-16 (XMODEM) modulo 16384, as the Redis Cluster specification has it.
func slot(key string) uint16 {
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % slots
}

// tag returns the part of a key that ends with the braces and a colon.
func tag(key string) string {
	before, _, _ := strings.Cut(key, "}")
	return before + "}:"
}
