package http2

import (
	"strings"
	"testing"

	h2 "golang.org/x/net/http2"
)

// Requests as they come, and what the handler sees of them.
func TestRequests(t *testing.T) {
	f := func(name string, script func(c *client), want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			greeted(t, config(), echo, func(c *client) {
				t.Helper()
				script(c)
				c.want(want)
			})
		})
	}
	const head = "HEADERS 1 :status=200\n"
	f("one", func(c *client) { c.get(1) }, head+`DATA 1 "GET https h /" END`)
	f("in order", func(c *client) {
		c.headers(1, true, append(request, "b: 1", "a: 2", "b: 3", "cookie: x", "cookie: y", "te: trailers")...)
	}, head+`DATA 1 "GET https h / b=1 a=2 b=3 cookie=x cookie=y te=trailers" END`)
	f("body", func(c *client) {
		c.headers(1, false, append(request, "content-length: 6")...)
		c.data(1, false, "abc")
		c.data(1, true, "def")
	}, head+`DATA 1 "GET https h / content-length=6 body=abcdef" END`)
	f("trailers", func(c *client) {
		c.post(1)
		c.data(1, false, "abc")
		c.headers(1, true, "grpc-status: 0", "content-length: 9", "x: y")
	}, head+`DATA 1 "GET https h / body=abc trailer grpc-status=0 trailer x=y" END`)
	f("padding and priority", func(c *client) {
		c.check(c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(request...), EndHeaders: true, PadLength: 9, Priority: h2.PriorityParam{StreamDep: 7}}))
		c.check(c.fr.WriteDataPadded(1, true, []byte("abc"), make([]byte, 10)))
	}, head+`DATA 1 "GET https h / body=abc" END`)
	f("continued", func(c *client) {
		block := string(c.encode(append(request, "a: "+strings.Repeat("b", 300))...))
		c.raw(kindHeaders, flagEndStream, 1, block[:5])
		c.raw(kindContinuation, 0, 1, "")
		c.raw(kindContinuation, 0, 1, block[5:9])
		c.raw(kindContinuation, flagEndHeaders, 1, block[9:])
	}, head+"DATA 1 (316 bytes) END")
	f("CONNECT is for others to refuse", func(c *client) {
		c.headers(1, true, ":method: CONNECT", ":authority: h:1")
	}, head+`DATA 1 "CONNECT  h:1 " END`)
	f("asterisk", func(c *client) {
		c.headers(1, true, ":method: OPTIONS", ":scheme: http", ":path: *")
	}, head+`DATA 1 "OPTIONS http  *" END`)
	f("empty value", func(c *client) { c.headers(1, true, append(request, "a: ")...) }, head+`DATA 1 "GET https h / a=" END`)
	f("a little too large", func(c *client) {
		c.headers(1, true, append(request, "a: "+strings.Repeat("a", 4<<10), "b: c")...)
		c.headers(3, true, append(request, "b: c")...) // the tables are in step
	}, head+`DATA 1 "too large" END`+"\nHEADERS 3 :status=200\n"+`DATA 3 "GET https h / b=c" END`)
	f("unknown frames, GOAWAY and PRIORITY", func(c *client) {
		c.raw(0x20, 0xff, 9, "what")
		c.raw(kindGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00bye")
		c.raw(kindPriority, 0, 5, "\x00\x00\x00\x03\x10")
		c.get(1)
	}, head+`DATA 1 "GET https h /" END`)
	f("one after the other", func(c *client) {
		c.get(1)
		c.said()
		c.get(5)
		c.said()
		c.get(7)
	}, "HEADERS 7 :status=200\n"+`DATA 7 "GET https h /" END`)
}

// TestFieldCount holds a head to the number of fields that a request has.
func TestFieldCount(t *testing.T) {
	cfg := config()
	cfg.HeaderBytes = 64 << 10
	greeted(t, cfg, echo, func(c *client) {
		fields := request
		for range 201 {
			fields = append(fields, "a: b")
		}
		c.headers(1, true, fields[:204]...)
		c.want("HEADERS 1 :status=200\nDATA 1 (813 bytes) END")
		c.headers(3, true, fields...)
		c.want("HEADERS 3 :status=200\nDATA 3 \"too large\" END")
	})
}

// What RFC 9113 calls malformed is an error of the stream, and the next one is
// served.
func TestMalformed(t *testing.T) {
	f := func(name string, fields ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			greeted(t, config(), echo, func(c *client) {
				c.headers(1, true, fields...)
				c.headers(3, true, append(request, "after: it")...)
				c.want("RST_STREAM 1 PROTOCOL_ERROR\nHEADERS 3 :status=200\nDATA 3 \"GET https h / after=it\" END")
			})
		})
	}
	with := func(fields ...string) []string { return append(request[:len(request):len(request)], fields...) }
	f("no method", request[1:]...)
	f("no path", request[:3]...)
	f("no scheme", ":method: GET", ":path: /")
	f("empty path", ":method: GET", ":scheme: https", ":path: ")
	f("method twice", append([]string{":method: GET"}, request...)...)
	f("path twice", with(":path: /")...)
	f("authority twice", with(":authority: h")...)
	f("pseudo-header field of an answer", with(":status: 200")...)
	f("unknown pseudo-header field", with(":protocol: websocket")...)
	f("pseudo-header field after another", ":method: GET", ":scheme: https", "a: b", ":path: /")
	f("CONNECT with a path", ":method: CONNECT", ":authority: h", ":path: /")
	f("CONNECT to nowhere", ":method: CONNECT")
	for _, bad := range []string{
		"Upper: case", "a b: c", "a\x00: c", "a:b: c", "\x80: c", "a\x7f: b", "a: b\x00", "a: b\nc: d", "a: b\rc", "a:  b", "a: b ", "a: \tb", "a: \x01",
		"connection: close", "keep-alive: 5", "proxy-connection: x", "transfer-encoding: chunked", "upgrade: h2c", "te: gzip", "te: trailers, gzip",
		"content-length: 1", "content-length: -1", "content-length: 0x1", "content-length: ", "content-length: 9999999999999999999",
	} {
		f(bad, with(bad)...)
	}
	f("content-length twice", with("content-length: 0", "content-length: 1")...)
}

func TestMalformedBodies(t *testing.T) {
	f := func(name string, script func(c *client), want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			greeted(t, config(), echo, func(c *client) {
				t.Helper()
				c.headers(1, false, append(request, "content-length: 3")...)
				script(c)
				c.want(want)
			})
		})
	}
	const malformed = "RST_STREAM 1 PROTOCOL_ERROR"
	f("too long", func(c *client) { c.data(1, false, "abcd") }, malformed)
	f("too short", func(c *client) { c.data(1, true, "ab") }, malformed)
	f("too short for its trailer", func(c *client) { c.data(1, false, "ab"); c.headers(1, true, "a: b") }, malformed)
	f("trailer without end", func(c *client) { c.data(1, false, "abc"); c.headers(1, false, "a: b") }, malformed)
	f("pseudo-header field in the trailer", func(c *client) { c.data(1, false, "abc"); c.headers(1, true, ":path: /") }, malformed)
	f("control character in the trailer", func(c *client) { c.data(1, false, "abc"); c.headers(1, true, "a: \x01") }, malformed)
	f("trailer too large", func(c *client) { c.data(1, false, "abc"); c.headers(1, true, "a: "+strings.Repeat("a", 5000)) }, malformed)
	f("what was on its way is ignored", func(c *client) {
		c.data(1, false, "abcd")
		c.data(1, false, "abcd")
		c.headers(1, true, "a: b")
		c.raw(kindWindowUpdate, 0, 1, "\x00\x00\x00\x01")
		c.get(3)
	}, malformed+"\nHEADERS 3 :status=200\nDATA 3 \"GET https h /\" END")
}

// What breaks the connection, and what the client is told.
func TestFaults(t *testing.T) {
	f := func(name string, script func(c *client), want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			greeted(t, config(), echo, func(c *client) {
				t.Helper()
				script(c)
				code, reason, _ := strings.Cut(want, " ")
				got := c.said()
				if line := " " + code + " " + reason + "\n"; !strings.Contains(got, "GOAWAY ") || !strings.Contains(got, line) {
					t.Errorf("got\n%swant%s", got, line)
				}
				if err := <-c.over; err == nil || err.Error() != code+": "+reason {
					t.Errorf("Serve: %v", err)
				}
			})
		})
	}
	frame := func(k kind, flags uint8, id uint32, payload string) func(c *client) {
		return func(c *client) { c.raw(k, flags, id, payload) }
	}
	f("frame too large", frame(kindHeaders, 0, 1, strings.Repeat("a", maxFrame+1)), "FRAME_SIZE_ERROR a frame is larger than SETTINGS_MAX_FRAME_SIZE")
	f("DATA on no stream", frame(kindData, 0, 0, "a"), "PROTOCOL_ERROR DATA on an idle stream")
	f("DATA on an idle stream", frame(kindData, 0, 1, "a"), "PROTOCOL_ERROR DATA on an idle stream")
	f("DATA on our stream", frame(kindData, 0, 2, "a"), "PROTOCOL_ERROR DATA on an idle stream")
	f("HEADERS on no stream", frame(kindHeaders, flagEndHeaders, 0, "\x82"), "PROTOCOL_ERROR HEADERS on a stream that no client opens")
	f("HEADERS on our stream", frame(kindHeaders, flagEndHeaders, 2, "\x82"), "PROTOCOL_ERROR HEADERS on a stream that no client opens")
	f("padding of HEADERS", frame(kindHeaders, flagEndHeaders|flagPadded, 1, "\x05\x82"), "PROTOCOL_ERROR more padding than payload")
	f("no padding of HEADERS", frame(kindHeaders, flagEndHeaders|flagPadded, 1, ""), "FRAME_SIZE_ERROR padding without its length")
	f("no priority", frame(kindHeaders, flagEndHeaders|flagPriority, 1, "\x00"), "FRAME_SIZE_ERROR HEADERS are too short for their priority")
	f("padding of DATA", func(c *client) { c.post(1); c.raw(kindData, flagPadded, 1, "\x01") }, "PROTOCOL_ERROR more padding than payload")
	f("numbers that do not grow", func(c *client) { c.get(5); c.get(3) }, "PROTOCOL_ERROR the numbers of streams do not grow")
	f("HEADERS interrupted", func(c *client) { c.raw(kindHeaders, 0, 1, "\x82"); c.raw(kindPing, 0, 0, "12345678") }, "PROTOCOL_ERROR a header block does not go on")
	f("HEADERS interrupted by the unknown", func(c *client) { c.raw(kindHeaders, 0, 1, "\x82"); c.raw(0x20, 0, 0, "") }, "PROTOCOL_ERROR a header block does not go on")
	f("CONTINUATION of another", func(c *client) { c.raw(kindHeaders, 0, 1, "\x82"); c.raw(kindContinuation, 0, 3, "") }, "PROTOCOL_ERROR a header block does not go on")
	f("CONTINUATION of nothing", frame(kindContinuation, 0, 1, ""), "PROTOCOL_ERROR CONTINUATION without HEADERS")
	f("bad index", frame(kindHeaders, flagEndHeaders, 1, "\xff\x7f"), "COMPRESSION_ERROR malformed header block")
	f("half a field", frame(kindHeaders, flagEndHeaders, 1, "\x40\x05a"), "COMPRESSION_ERROR a header block breaks off")
	f("large string", frame(kindHeaders, 0, 1, "\x40\x01a\x7f\x81\x7f"), "ENHANCE_YOUR_CALM a header field is too large")
	f("large block", frame(kindHeaders, 0, 1, strings.Repeat("\x82", 8<<10+1)), "ENHANCE_YOUR_CALM a header block is too large, or in too many frames")
	f("CONTINUATION flood", func(c *client) {
		c.raw(kindHeaders, 0, 1, "\x82")
		for range 16 {
			c.raw(kindContinuation, 0, 1, "")
		}
	}, "ENHANCE_YOUR_CALM a header block is too large, or in too many frames")
	f("RST_STREAM on an idle stream", frame(kindReset, 0, 1, "\x00\x00\x00\x08"), "PROTOCOL_ERROR RST_STREAM on an idle stream")
	f("RST_STREAM on no stream", frame(kindReset, 0, 0, "\x00\x00\x00\x08"), "PROTOCOL_ERROR RST_STREAM on an idle stream")
	f("short RST_STREAM", func(c *client) { c.post(1); c.raw(kindReset, 0, 1, "\x00") }, "FRAME_SIZE_ERROR RST_STREAM is not of 4 bytes")
	f("PRIORITY of nothing", frame(kindPriority, 0, 0, "12345"), "PROTOCOL_ERROR PRIORITY of the connection")
	f("PUSH_PROMISE", frame(kindPushPromise, flagEndHeaders, 1, "\x00\x00\x00\x02\x82"), "PROTOCOL_ERROR PUSH_PROMISE of a client")
	f("short PING", frame(kindPing, 0, 0, "1234567"), "FRAME_SIZE_ERROR PING is not of 8 bytes")
	f("PING on a stream", frame(kindPing, 0, 1, "12345678"), "PROTOCOL_ERROR PING on a stream")
	f("short GOAWAY", frame(kindGoAway, 0, 0, "1234567"), "FRAME_SIZE_ERROR GOAWAY is too short")
	f("GOAWAY on a stream", frame(kindGoAway, 0, 1, "12345678"), "PROTOCOL_ERROR GOAWAY on a stream")
	f("SETTINGS on a stream", frame(kindSettings, 0, 1, ""), "PROTOCOL_ERROR SETTINGS on a stream")
	f("SETTINGS of 5 bytes", frame(kindSettings, 0, 0, "12345"), "FRAME_SIZE_ERROR SETTINGS are not a multiple of 6 bytes")
	f("SETTINGS ack with more", frame(kindSettings, flagAck, 0, "123456"), "FRAME_SIZE_ERROR an acknowledgement of SETTINGS with a payload")
	f("ENABLE_PUSH", frame(kindSettings, 0, 0, "\x00\x02\x00\x00\x00\x02"), "PROTOCOL_ERROR SETTINGS_ENABLE_PUSH is neither 0 nor 1")
	f("INITIAL_WINDOW_SIZE", frame(kindSettings, 0, 0, "\x00\x04\x80\x00\x00\x00"), "FLOW_CONTROL_ERROR SETTINGS_INITIAL_WINDOW_SIZE is larger than a window may be")
	f("small MAX_FRAME_SIZE", frame(kindSettings, 0, 0, "\x00\x05\x00\x00\x3f\xff"), "PROTOCOL_ERROR SETTINGS_MAX_FRAME_SIZE is out of bounds")
	f("large MAX_FRAME_SIZE", frame(kindSettings, 0, 0, "\x00\x05\x01\x00\x00\x00"), "PROTOCOL_ERROR SETTINGS_MAX_FRAME_SIZE is out of bounds")
	f("short WINDOW_UPDATE", frame(kindWindowUpdate, 0, 0, "123"), "FRAME_SIZE_ERROR WINDOW_UPDATE is not of 4 bytes")
	f("WINDOW_UPDATE of nothing", frame(kindWindowUpdate, 0, 0, "\x80\x00\x00\x00"), "PROTOCOL_ERROR WINDOW_UPDATE of nothing")
	f("WINDOW_UPDATE on an idle stream", frame(kindWindowUpdate, 0, 1, "\x00\x00\x00\x01"), "PROTOCOL_ERROR WINDOW_UPDATE on an idle stream")
	f("the connection's window", frame(kindWindowUpdate, 0, 0, "\x7f\xff\xff\xff"), "FLOW_CONTROL_ERROR the connection's window is larger than a window may be")
	f("a stream's window by SETTINGS", func(c *client) {
		c.post(1)
		c.check(c.fr.WriteWindowUpdate(1, maxWindow-firstWindow))
		c.check(c.fr.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: firstWindow + 1}))
	}, "FLOW_CONTROL_ERROR SETTINGS make a window larger than it may be")
	f("DATA on a stream that has ended", func(c *client) { c.get(1); c.said(); c.data(1, false, "a") }, "STREAM_CLOSED a frame on a stream that has ended")
	f("HEADERS on a stream that has ended", func(c *client) { c.get(1); c.said(); c.get(1) }, "STREAM_CLOSED a frame on a stream that has ended")
}

// Frames that the state of their stream does not allow.
func TestStreamErrors(t *testing.T) {
	f := func(name string, script func(c *client), want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			greeted(t, config(), wait, func(c *client) {
				t.Helper()
				script(c)
				c.want(want)
			})
		})
	}
	f("DATA after END_STREAM", func(c *client) {
		c.post(1)
		c.raw(kindReset, 0, 1, "\x00\x00\x00\x08")
		c.data(1, false, "late")
	}, "RST_STREAM 1 STREAM_CLOSED")
	f("HEADERS after RST_STREAM", func(c *client) {
		c.post(1)
		c.raw(kindReset, 0, 1, "\x00\x00\x00\x08")
		c.get(1)
	}, "RST_STREAM 1 STREAM_CLOSED")
	f("what was on its way to streams that we reset", func(c *client) {
		for id := uint32(1); id < 100; id += 2 {
			c.headers(id, false, "a: b")
		}
		c.said()
		for id := uint32(1); id < 100; id += 2 {
			c.data(id, true, "late")
		}
	}, "")
	f("PRIORITY on itself", func(c *client) { c.raw(kindPriority, 0, 1, "\x00\x00\x00\x01\x10") }, "RST_STREAM 1 PROTOCOL_ERROR")
	f("long PRIORITY", func(c *client) { c.raw(kindPriority, 0, 1, "123456") }, "RST_STREAM 1 FRAME_SIZE_ERROR")
	f("HEADERS on itself", func(c *client) {
		c.raw(kindHeaders, flagEndHeaders|flagEndStream|flagPriority, 1, "\x00\x00\x00\x01\x10"+string(c.encode(request...)))
	}, "RST_STREAM 1 PROTOCOL_ERROR")
	f("WINDOW_UPDATE of nothing", func(c *client) { c.post(1); c.raw(kindWindowUpdate, 0, 1, "\x00\x00\x00\x00") }, "RST_STREAM 1 PROTOCOL_ERROR")
	f("WINDOW_UPDATE of too much", func(c *client) { c.post(1); c.raw(kindWindowUpdate, 0, 1, "\x7f\xff\xff\xff") }, "RST_STREAM 1 FLOW_CONTROL_ERROR")
	f("too many", func(c *client) {
		for id := uint32(1); id < 25; id += 2 {
			c.post(id)
		}
		c.want("RST_STREAM 21 REFUSED_STREAM\nRST_STREAM 23 REFUSED_STREAM")
		c.data(1, true, "")
		c.want("HEADERS 1 :status=204 END")
		c.get(25)
	}, "HEADERS 25 :status=204 END")
}
