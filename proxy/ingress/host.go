package ingress

import "bytes"

// parseHost sets Host and Authority from a Host value or an authority. It
// builds behind what r.host holds, so that earlier results stay.
func (r *Request) parseHost(value []byte) bool {
	if len(value) == 0 || len(value) > 260 {
		return false
	}
	name, port := value, []byte(nil)
	if value[0] == '[' {
		end := bytes.IndexByte(value, ']')
		if end < 0 {
			return false
		}
		name, port = value[:end+1], value[end+1:]
	} else if colon := bytes.IndexByte(value, ':'); colon >= 0 {
		name, port = value[:colon], value[colon:]
	}
	if len(port) > 0 && !isPort(port) {
		return false
	}
	start := len(r.host)
	if value[0] == '[' {
		addr, ok := parseAddr(name[1 : len(name)-1])
		if !ok || !addr.Is6() {
			return false
		}
		r.host = append(r.host, '[')
		r.host = addr.AppendTo(r.host)
		r.host = append(r.host, ']')
	} else {
		if n := len(name); n > 0 && name[n-1] == '.' {
			name = name[:n-1]
		}
		r.host = append(r.host, name...)
		built, label := r.host[start:], 0 // where the label begins
		for i, c := range built {
			switch class := classes[c]; {
			case class&upperByte != 0:
				built[i] = c + ('a' - 'A')
			case class&labelByte != 0:
			case c == '.' && i > label:
				label = i + 1
			default:
				return false
			}
		}
		if label == len(name) {
			return false
		}
	}
	end := len(r.host)
	r.host = append(r.host, port...)
	r.Host, r.Authority = r.host[start:end:end], r.host[start:]
	return true
}

// isPort reads ":" and 1 to 65535, without leading zeros.
func isPort(b []byte) bool {
	if len(b) < 2 || len(b) > 6 || b[1] == '0' {
		return false
	}
	n := 0
	for _, c := range b[1:] {
		if !isDigit(c) {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}
