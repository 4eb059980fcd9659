package http2

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"
)

// TestEncoder has any decoder understand what the encoder writes, whatever the
// size of its table.
func TestEncoder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := encoder{limit: defaultTableSize}
		d := hpack.NewDecoder(defaultTableSize, nil)
		names := rapid.SampledFrom([]string{"Content-Type", "set-cookie", "x-a", "X-B", "etag", "x-request-id", "date", "grpc-status", strings.Repeat("n", 200)})
		for range rapid.IntRange(1, 100).Draw(t, "blocks") {
			for range rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2}).Draw(t, "resizes") {
				n := rapid.IntRange(0, defaultTableSize).Draw(t, "size")
				e.resize(n)
			}
			b := e.begin(nil)
			status := rapid.SampledFrom([]int{103, 200, 204, 206, 304, 400, 404, 429, 500, 503}).Draw(t, "status")
			b = e.status(b, status)
			want := []string{fmt.Sprintf(":status=%d", status)}
			for range rapid.IntRange(0, 8).Draw(t, "fields") {
				name := names.Draw(t, "name")
				value := strings.Repeat(rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "letter"), rapid.SampledFrom([]int{1, 20, 300, 3000}).Draw(t, "length"))
				b = e.field(b, []byte(name), []byte(value))
				want = append(want, strings.ToLower(name)+"="+value)
			}
			fields, err := d.DecodeFull(b)
			var got []string
			for _, f := range fields {
				got = append(got, f.Name+"="+f.Value)
			}
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%v: got %v, want %v", err, got, want)
			}
		}
	})
}

// TestEncoderSizes has what recurs cost a byte, and secrets never enter a
// table.
func TestEncoderSizes(t *testing.T) {
	f := func(name, value, want string) {
		t.Helper()
		e := encoder{limit: defaultTableSize}
		var sizes []int
		for range 3 {
			sizes = append(sizes, len(e.field(nil, []byte(name), []byte(value))))
		}
		if got := fmt.Sprintf("%v %d", sizes, e.count); got != want {
			t.Errorf("%s: %s: %s, want %s", name, value, got, want)
		}
	}
	f("Content-Type", "text/plain", "[12 1 1] 1")
	f("x-name", "value", "[14 1 1] 1")
	f("x-request-id", "0123456789", "[25 1 1] 1") // the same value: as good as any
	f("content-length", "10", "[5 5 5] 0")
	f("set-cookie", "a=b", "[6 6 6] 0")
	f("authorization", "x", "[17 17 17] 0")
	f("large", strings.Repeat("a", 2000), "[2010 2010 2010] 0")
}

// TestStatic compares the names that the encoder knows with hpack's.
func TestStatic(t *testing.T) {
	for name, index := range static {
		fields, err := hpack.NewDecoder(0, nil).DecodeFull(appendInt(nil, 0x80, 7, index))
		if err != nil || len(fields) != 1 || fields[0].Name != name {
			t.Errorf("%d is %v, not %s", index, fields, name)
		}
	}
}

// TestBody has bytes come out of a body as they went in.
func TestBody(t *testing.T) {
	cfg := config()
	rapid.Check(t, func(t *rapid.T) {
		var b body
		var want []byte
		next := byte(0)
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			n := rapid.SampledFrom([]int{0, 1, 100, 4095, 4096, 4097, 16384}).Draw(t, "n")
			if rapid.Bool().Draw(t, "add") {
				p := make([]byte, n)
				for i := range p {
					p[i] = next
					next++
				}
				b.add(cfg, p)
				want = append(want, p...)
			} else {
				p := make([]byte, n)
				got := b.read(cfg, p)
				if got != min(n, len(want)) || string(p[:got]) != string(want[:got]) {
					t.Fatalf("read %d of %d", got, len(want))
				}
				want = want[got:]
			}
			if b.n != len(want) || (b.n == 0) != (b.first == nil) {
				t.Fatalf("%d left, want %d", b.n, len(want))
			}
		}
		if got := b.drop(cfg); got != len(want) || b.first != nil || b.end != nil {
			t.Fatalf("%d dropped, want %d", got, len(want))
		}
	})
}
