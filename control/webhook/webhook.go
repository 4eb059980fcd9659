package webhook

import (
	"context"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// Message is what is told of an event.
type Message struct {
	// Kind is as invoice.finalized; Tenant is whose it is, empty for the
	// platform's.
	Kind, Tenant string
	At           time.Time
	// Data is JSON.
	Data json.RawMessage
}

// Config is what a Sender is made of.
type Config struct {
	Journal *journal.Journal
	// Read makes a message of an event, or none. It is pure.
	Read func(*journal.Event) (Message, bool)
	// Kinds are those of the events that Read may make messages of.
	Kinds []string
	// Key seals the secrets of endpoints, 32 bytes.
	Key []byte
	// Dial connects to endpoints. Default: Guard of a plain dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// AllowHTTP takes endpoints without TLS.
	AllowHTTP bool
	// Random is crypto/rand.Reader, and Now time.Now, but for tests.
	Random io.Reader
	Now    func() time.Time
	// Agent is the User-Agent.
	Agent string
	// Log is told of what Run does. Default: nothing is.
	Log *slog.Logger
}

// Sender keeps endpoints and tells them of events. Its methods are safe for
// concurrent use, but for Run and Round, of which one runs at a time.
type Sender struct {
	Config
	box    cipher.AEAD
	client *http.Client
	owner  string
	// scanned is how far the journal was read without finding anything to tell;
	// it belongs to whoever calls Round.
	scanned uint64
}

// Kinds of resources in the journal.
const (
	kindEndpoint = "webhook"
	kindDelivery = "webhook-delivery"
	kindSender   = "webhook-sender"
)

// timeout is for one attempt as a whole.
const timeout = 10 * time.Second

// New returns a sender.
func New(c Config) (*Sender, error) {
	box, err := newBox(c.Key)
	if err != nil {
		return nil, err
	}
	if c.Dial == nil {
		c.Dial = Guard(&net.Dialer{Timeout: timeout})
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Agent == "" {
		c.Agent = "gatehouse"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sender{Config: c, box: box}
	name := make([]byte, 16)
	if _, err := io.ReadFull(c.Random, name); err != nil {
		return nil, fmt.Errorf("name the sender of webhooks: %w", err)
	}
	s.owner = fmt.Sprintf("%x", name)
	s.client = &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext: c.Dial, TLSHandshakeTimeout: timeout, ResponseHeaderTimeout: timeout, MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second,
			MaxResponseHeaderBytes: 32 << 10, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// Actor is how the journal names the sender.
const Actor = "system:webhooks"

func coded(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*gatehouse.Error](err); ok {
		return err
	}
	code, message := gatehouse.CodeInternal, "the control plane's store failed"
	switch {
	case errors.Is(err, journal.ErrNotFound):
		code, message = gatehouse.CodeNotFound, "there is no such webhook"
	case errors.Is(err, journal.ErrMismatch):
		code, message = gatehouse.CodeIdempotency, "the idempotency key was used for another request"
	case errors.Is(err, journal.ErrFull), errors.Is(err, journal.ErrUnknown):
		code, message = gatehouse.CodeUnavailable, "the control plane's store did not answer; ask again"
	case stale(err):
		code, message = gatehouse.CodeStale, "it has changed meanwhile; read it again"
	}
	return &gatehouse.Error{Code: code, Message: message, Err: err}
}

func stale(err error) bool {
	_, moved := errors.AsType[*journal.StaleError](err)
	_, there := errors.AsType[*journal.ExistsError](err)
	return moved || there
}
