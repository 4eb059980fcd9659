package edge

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"strconv"
	"time"
)

const (
	// ticketAge is how long one key seals new session tickets.
	ticketAge = 12 * time.Hour
	// ticketKeys are the keys that open tickets: the newest, and two before it.
	ticketKeys = 3
)

// tickets are the secrets that the keys of session tickets are made from.
// They live in memory only.
type tickets [][sha256.Size]byte // the newest first

func (t *tickets) rotate() {
	var secret [sha256.Size]byte
	rand.Read(secret[:]) // it never fails
	*t = append(tickets{secret}, (*t)[:min(len(*t), ticketKeys-1)]...)
}

// newSalt tells the authorities of one configuration from those of any other.
// It is drawn, not computed: a pool of certificates does not show its content.
func newSalt() []byte {
	salt := make([]byte, 16)
	rand.Read(salt) // it never fails
	return salt
}

// keys derives the ticket keys of a configuration by HKDF (RFC 5869). No two
// tenants share a key, nor do different authorities of one: a ticket carries
// what its handshake proved about the client, and proves it nowhere else.
func (t tickets) keys(k *kept) [][32]byte {
	info := "gatehouse ticket " + strconv.Itoa(int(k.MinVersion)) + " " + strconv.FormatBool(k.ClientAuth) + " " + k.ID
	keys := make([][32]byte, len(t))
	for i := range t {
		key, err := hkdf.Key(sha256.New, t[i][:], k.salt, info, 32)
		if err != nil {
			panic("edge: " + err.Error()) // only for lengths that HKDF cannot make
		}
		copy(keys[i][:], key)
	}
	return keys
}
