package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// recorder writes the access log: one JSON object a line, one line a request.
// A line is put into a buffer, which is written out when it is full, at each
// tick of run, and at the end. A reader that does not read holds up neither
// requests nor metrics: lines beyond what may wait are dropped and counted.
type recorder struct {
	w io.Writer // nil: off
	// failing is told when w begins to fail. It is set before the first write.
	failing func(error)

	writing sync.Mutex // held while w is written to; taken before mu
	broken  bool       // the last write failed; guarded by writing
	spare   []byte     // the buffer not in use; guarded by writing

	mu   sync.Mutex // held for as long as a line takes to append
	buf  []byte     // guarded by mu
	lost int64      // bytes of lines that were not written; guarded by mu
}

const (
	recordBuffer   = 64 << 10
	recordWaiting  = 4 << 20 // most that waits for a slow reader
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
	r.writing.Lock()
	defer r.writing.Unlock()
	r.flushLocked()
}

// flushLocked is called with writing held.
func (r *recorder) flushLocked() {
	r.mu.Lock()
	out := r.buf
	r.buf, r.spare = r.spare[:0], nil
	r.mu.Unlock()
	if len(out) > 0 {
		n, err := r.w.Write(out)
		if err != nil {
			r.mu.Lock()
			r.lost += int64(len(out) - n)
			r.mu.Unlock()
			if !r.broken {
				r.failing(err)
			}
		}
		r.broken = err != nil
	}
	r.spare = out
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
	before := len(r.buf)
	r.buf = appendRecord(r.buf, x, now)
	size := len(r.buf)
	if size > recordWaiting {
		r.lost += int64(size - before)
		r.buf = r.buf[:before]
	}
	r.mu.Unlock()
	if size > recordBuffer && r.writing.TryLock() {
		r.flushLocked()
		r.writing.Unlock()
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
	b = append(b, '"')
	b = appendText(b, `,"method":`, x.In.Method)
	b = appendText(b, `,"host":`, x.In.Host)
	b = appendText(b, `,"path":`, x.In.Path)
	if x.route != nil {
		b = appendJSON(append(b, `,"route":`...), string(x.route.id))
	}
	b = appendText(b, `,"protocol":`, x.protocol())
	if x.secured != nil {
		b = appendJSON(append(b, `,"tls":`...), strings.TrimPrefix(tls.VersionName(x.secured.Version), "TLS "))
		if x.ServerName != "" {
			b = appendJSON(append(b, `,"server_name":`...), x.ServerName)
		}
	}
	if x.who != nil {
		b = appendJSON(append(b, `,"auth":`...), x.who.Method)
		b = appendJSON(append(b, `,"principal":`...), x.who.Principal.ID)
		if x.who.KeyID != "" {
			b = appendJSON(append(b, `,"key_id":`...), string(x.who.KeyID))
		}
	}
	b = strconv.AppendInt(append(b, `,"status":`...), int64(x.Status), 10)
	settled := x.phase // as in gatehouse_requests_total: a code has its phase
	if ph, ok := codePhase[phaseLetters(x.code)]; ok {
		settled = ph
	}
	b = appendJSON(append(b, `,"phase":`...), settled.String())
	if x.code != "" {
		b = appendJSON(append(b, `,"code":`...), string(x.code))
	}
	if x.failure != "" {
		b = appendJSON(append(b, `,"error.type":`...), x.failure)
	}
	if x.cause != nil {
		b = appendJSON(append(b, `,"error":`...), x.cause.Error())
	}
	b = strconv.AppendInt(append(b, `,"bytes_in":`...), x.bodyIn.Load(), 10)
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
	if v := &x.verdict; v.Beyond != nil {
		b = appendJSON(append(b, `,"limit_beyond":`...), v.Beyond.Name)
	}
	if v := &x.verdict; v.Over > 0 {
		b = strconv.AppendInt(append(b, `,"over_units":`...), v.Over, 10)
	}
	if x.verdict.Away {
		b = append(b, `,"limits_away":true`...)
	}
	if x.obliged != nil && len(x.obliged.Log) > 0 {
		for i, f := range x.obliged.Log {
			if b = append(b, ','); i == 0 {
				b = append(b, `"policy":{`...)
			}
			b = appendJSON(append(appendJSON(b, f.Name), ':'), f.Value)
		}
		b = append(b, '}')
	}
	if n := x.reported(); n != 0 {
		b = strconv.AppendInt(append(b, `,"units_millionths":`...), n, 10)
	}
	return append(b, "}\n"...)
}

// appendText adds a member unless it is empty.
func appendText(b []byte, name string, value []byte) []byte {
	if len(value) == 0 {
		return b
	}
	return appendJSON(append(b, name...), value)
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
