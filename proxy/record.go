package proxy

import (
	"context"
	"io"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// recorder writes the access log: one JSON object a line, one line a request.
// A line is put into a buffer under a lock and written out when the buffer is
// full, at each tick of Run, and at Close; requests never wait for a tick.
type recorder struct {
	mu  sync.Mutex
	w   io.Writer // guarded by mu; nil: off
	buf []byte    // guarded by mu
	// failing is told when w begins to fail. It is set before the first write.
	failing func(error)
	broken  bool  // the last write failed; guarded by mu
	lost    int64 // bytes of records that could not be written; guarded by mu
}

const (
	recordBuffer   = 64 << 10
	recordInterval = 500 * time.Millisecond
)

func newRecorder(w io.Writer) *recorder { return &recorder{w: w} }

// run flushes at intervals until ctx ends, and then once more.
func (r *recorder) run(ctx context.Context) {
	tick := time.NewTicker(recordInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.flush()
		case <-ctx.Done():
			r.flush()
			return
		}
	}
}

func (r *recorder) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushLocked()
}

// flushLocked is called with mu held.
func (r *recorder) flushLocked() {
	if len(r.buf) == 0 {
		return
	}
	n, err := r.w.Write(r.buf)
	if err != nil {
		r.lost += int64(len(r.buf) - n)
		if !r.broken {
			r.failing(err)
		}
	}
	r.broken = err != nil
	r.buf = r.buf[:0]
}

func (r *recorder) lostBytes() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// write adds the record of a finished exchange.
func (r *recorder) write(x *Exchange, now time.Time) {
	if r.w == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf = appendRecord(r.buf, x, now)
	if len(r.buf) > recordBuffer {
		r.flushLocked()
	}
}

func appendRecord(b []byte, x *Exchange, now time.Time) []byte {
	b = append(b, `{"ts":"`...)
	b = x.start.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000000Z07:00")
	b = appendJSON(append(b, `","request_id":`...), x.id)
	if len(x.trace) >= 35 {
		b = append(append(append(b, `,"trace_id":"`...), x.trace[3:35]...), '"')
	}
	if x.table != nil {
		b = appendJSON(append(b, `,"tenant":`...), x.table.id)
		b = strconv.AppendUint(append(b, `,"revision":`...), x.table.revision, 10)
	}
	b = append(append(b, `,"client":"`...), clientText(x)...)
	b = appendJSON(append(b, `","method":`...), x.rawMethod)
	b = appendJSON(append(b, `,"host":`...), x.In.Host)
	b = appendJSON(append(b, `,"path":`...), x.In.Path)
	if x.route != nil {
		b = appendJSON(append(b, `,"route":`...), string(x.route.doc.ID))
	}
	b = appendJSON(append(b, `,"protocol":`...), x.rawProtocol)
	if x.who != nil {
		b = appendJSON(append(b, `,"auth":`...), x.who.Method)
		b = appendJSON(append(b, `,"principal":`...), x.who.Principal.ID)
		if x.who.KeyID != "" {
			b = appendJSON(append(b, `,"key_id":`...), string(x.who.KeyID))
		}
	}
	b = strconv.AppendInt(append(b, `,"status":`...), int64(x.Status), 10)
	b = appendJSON(append(b, `,"phase":`...), x.phase.String())
	if x.code != "" {
		b = appendJSON(append(b, `,"code":`...), string(x.code))
	}
	if x.failure != "" {
		b = appendJSON(append(b, `,"error.type":`...), x.failure)
	}
	if x.cause != nil {
		b = appendJSON(append(b, `,"error":`...), x.cause.Error())
	}
	b = strconv.AppendInt(append(b, `,"bytes_in":`...), x.bodyIn, 10)
	b = strconv.AppendInt(append(b, `,"bytes_out":`...), x.bodyOut, 10)
	b = appendMillis(append(b, `,"duration_ms":`...), now.Sub(x.start))
	if endpoint := x.resp.Endpoint; endpoint != "" {
		b = appendJSON(append(b, `,"upstream":`...), endpoint)
		b = strconv.AppendInt(append(b, `,"attempts":`...), int64(x.resp.Attempts), 10)
		b = appendMillis(append(b, `,"connect_ms":`...), x.resp.Connect)
		b = appendMillis(append(b, `,"first_byte_ms":`...), x.resp.FirstByte)
	}
	if v := &x.verdict; v.Binding != nil {
		b = appendJSON(append(b, `,"limit":`...), v.Binding.Name)
		b = strconv.AppendInt(append(b, `,"limit_remaining":`...), v.Remaining, 10)
	}
	if x.units != 0 {
		b = strconv.AppendInt(append(b, `,"units_millionths":`...), x.units, 10)
	}
	return append(b, "}\n"...)
}

func clientText(x *Exchange) []byte {
	if !x.client.IsValid() {
		x.client = x.Peer
	}
	return x.address()
}

// appendMillis writes milliseconds with three decimals.
func appendMillis(b []byte, d time.Duration) []byte {
	us := d.Microseconds()
	b = strconv.AppendInt(b, us/1000, 10)
	frac := us % 1000
	return append(b, '.', '0'+byte(frac/100), '0'+byte(frac/10%10), '0'+byte(frac%10))
}

// appendJSON appends s as a JSON string. Control characters and bytes that
// are not UTF-8 are escaped, so that a value cannot forge a record.
func appendJSON[T string | []byte](b []byte, s T) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r == utf8.RuneError && n == 1 {
				b = append(b, `\ufffd`...)
			} else {
				b = append(b, s[i:i+n]...)
			}
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}

// FlushRecords writes out the access records that are still in memory.
func (g *Gateway) FlushRecords() { g.access.flush() }
