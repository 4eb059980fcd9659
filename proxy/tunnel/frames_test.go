package tunnel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// naive decodes a whole stream by RFC 6455, 5.2, and lists where each frame
// ends: "+" behind a fragment that leaves its message open, "." otherwise,
// "x" behind Close. "!" at the end: it went wrong there; "~": within a frame.
func naive(s []byte) string {
	var b strings.Builder
	message, at := false, 0
	for rest := s; len(rest) > 0; {
		fin, op, size := rest[0]&0x80 != 0, rest[0]&15, uint64(2)
		if len(rest) < 2 {
			return b.String() + "~"
		}
		length := uint64(rest[1] & 0x7f)
		if op >= 8 && (!fin || length > 125) {
			return b.String() + "!"
		}
		switch {
		case length == 126 && len(rest) >= 4:
			length, size = uint64(binary.BigEndian.Uint16(rest[2:])), 4
		case length == 127 && len(rest) >= 10:
			length, size = binary.BigEndian.Uint64(rest[2:]), 10
			if length>>63 != 0 {
				return b.String() + "!"
			}
		case length >= 126:
			return b.String() + "~"
		}
		if rest[1]&0x80 != 0 {
			size += 4
		}
		if uint64(len(rest)) < size || uint64(len(rest))-size < length {
			return b.String() + "~"
		}
		rest = rest[size+length:]
		at = len(s) - len(rest)
		if op < 8 {
			message = !fin
		}
		sign := "."
		if message {
			sign = "+"
		}
		if op == 8 {
			sign += "x"
		}
		fmt.Fprintf(&b, "%d%s ", at, sign)
	}
	return b.String()
}

// followed is the same list, by frames, over s cut into pieces.
func followed(s []byte, cuts func() int) string {
	var b strings.Builder
	var f frames
	at := 0
	for len(s) > 0 {
		piece := s[:min(len(s), max(1, cuts()))]
		s = s[len(piece):]
		for len(piece) > 0 {
			n := f.step(piece)
			at += n
			piece = piece[n:]
			if f.between() {
				sign := "."
				if f.amid() {
					sign = "+"
				}
				if f.closed {
					sign += "x"
					f.closed = false
				}
				fmt.Fprintf(&b, "%d%s ", at, sign)
			}
		}
	}
	switch {
	case f.broken:
		b.WriteString("!")
	case !f.between():
		b.WriteString("~")
	}
	return b.String()
}

func TestFrames(t *testing.T) {
	f := func(stream, want string) {
		t.Helper()
		for _, cut := range []int{1, 2, 3, len(stream)} {
			if got := followed([]byte(stream), func() int { return cut }); got != want {
				t.Errorf("%x by %d: got %s, want %s", stream, cut, got, want)
			}
		}
		if got := naive([]byte(stream)); got != want {
			t.Errorf("%x: the test itself says %s, want %s", stream, got, want)
		}
	}
	f("\x81\x00", "2. ")
	f("\x81\x02hi\x82\x80....", "4. 10. ")
	f("\x81\x7e\x00\x02hi", "6. ")                         // not the shortest length
	f("\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01x", "11. ") // nor this
	f("\x01\x01a\x89\x00\x00\x01b\x80\x01c", "3+ 5+ 8+ 11. ")
	f("\x88\x02\x03\xe9\x81\x00", "4.x 6. ")
	f("\x01\x01a\x88\x00", "3+ 5+x ")
	f("\xc1\x01a\x83\x00\xf1\x00", "3. 5. 7. ") // reserved bits and opcodes
	f("\x81", "~")
	f("\x81\x02h", "~")
	f("\x81\x00\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00\x81\x00", "2. !") // length of 64 bits
	f("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffabcdefgh", "~")
	f("\x09\x00\x81\x00", "!")            // a control frame in fragments
	f("\x81\x00\x88\x7e\x00\x7e", "2. !") // a control frame too long
}

// stream draws valid frames, sometimes with something else behind them.
func stream(t *rapid.T, masked bool) []byte {
	var s []byte
	for range rapid.IntRange(0, 12).Draw(t, "frames") {
		first := rapid.SampledFrom([]byte{0x01, 0x81, 0x82, 0xc2, 0x00, 0x80, 0x89, 0x8a, 0x88}).Draw(t, "first")
		length := rapid.SampledFrom([]int{0, 1, 2, 60, 64, 125, 126, 127, 4096, 65535, 65536, 70000}).Draw(t, "length")
		if first&8 != 0 {
			length = min(length, 125)
		}
		s = append(s, frame(first, strings.Repeat("p", length), masked)...)
	}
	return append(s, rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "rest")...)
}

func TestFramesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := stream(t, rapid.Bool().Draw(t, "masked"))
		cut := rapid.SampledFrom([]*rapid.Generator[int]{rapid.IntRange(1, 5), rapid.IntRange(1, 100_000)}).Draw(t, "cuts")
		if got, want := followed(s, func() int { return cut.Draw(t, "cut") }), naive(s); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

// The law: whatever comes, cut anywhere, the follower says what the naive
// decoder says.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x81\x02hi\x01\x7e\x00\x01x\x88\x82abcd\x03\xe9"), []byte{1, 2, 3})
	f.Add([]byte("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffabcdefgh"), []byte{7})
	f.Add([]byte("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffabcdefgh"), []byte{})
	f.Fuzz(func(t *testing.T, s, cuts []byte) {
		i := 0
		got := followed(s, func() int {
			if i++; len(cuts) == 0 {
				return len(s)
			}
			return int(cuts[i%len(cuts)])
		})
		if want := naive(s); got != want {
			t.Fatalf("%x: got %s, want %s", s, got, want)
		}
	})
}

// Whatever passes arrives as it was sent, however it was cut, and is counted.
func TestBytesPassUnchanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		up, down := stream(t, true), stream(t, false)
		cut := rapid.IntRange(1, 100_000)
		cuts := rapid.SliceOfN(cut, 1, 8).Draw(t, "cuts")
		early := rapid.IntRange(0, len(up)).Draw(t, "early")

		var metered [2]atomic.Int64
		o := Options{WebSocket: rapid.Bool().Draw(t, "WebSocket"), ClientEarly: up[:early], Bytes: func(c, b int64) {
			metered[0].Add(c)
			metered[1].Add(b)
		}}
		c, gc := newDuplex()
		gb, b := newDuplex()
		result := make(chan Result, 1)
		go func() { result <- NewSet().Join(gc, gb, o) }()
		send := func(w duplex, s []byte) {
			for i := 0; len(s) > 0; i++ {
				n := min(len(s), cuts[i%len(cuts)])
				_, _ = w.Write(s[:n])
				s = s[n:]
			}
			_ = w.CloseWrite()
		}
		received := make(chan []byte, 1)
		go send(c, up[early:])
		go send(b, down)
		go func() {
			s, _ := io.ReadAll(c)
			received <- s
		}()
		if s, err := io.ReadAll(b); err != nil || !bytes.Equal(s, up) {
			t.Errorf("backend got %x %v, want %x", s, err, up)
		}
		if s := <-received; !bytes.Equal(s, down) {
			t.Errorf("client got %x, want %x", s, down)
		}
		r := <-result
		if r.Err != nil || r.FromClient != int64(len(up)) || r.FromBackend != int64(len(down)) ||
			metered[0].Load() != r.FromClient || metered[1].Load() != r.FromBackend {
			t.Errorf("%+v, metered %d and %d, of %d and %d", r, metered[0].Load(), metered[1].Load(), len(up), len(down))
		}
	})
}

func BenchmarkFrames(b *testing.B) {
	for name, s := range map[string][]byte{
		"large": frame(0x82, strings.Repeat("x", bufferSize), true)[:bufferSize],
		"small": bytes.Repeat(frame(0x81, "twenty bytes or more", true), bufferSize/26),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(s)))
			b.ReportAllocs()
			for b.Loop() {
				var f frames
				f.walk(s)
			}
		})
	}
}
