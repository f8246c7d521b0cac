package sim

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"time"
)

// write sends an answer, as far as it goes, and ends the connection as asked.
func (s *Server) write(w http.ResponseWriter, r *http.Request, a Answer) {
	if a.End == Whole && a.session != nil {
		s.upgrade(w, r, a)
		return
	}
	if a.End == Whole {
		maps.Copy(w.Header(), a.Header)
		if a.Header.Get("Content-Type") == "" {
			w.Header()["Content-Type"] = nil // or net/http would guess
		}
		if a.Status != http.StatusNoContent {
			w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
		}
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body)
		return
	}
	h, ok := w.(http.Hijacker)
	if !ok { // HTTP/2: the nearest to all of them
		panic(http.ErrAbortHandler)
	}
	conn, rw, err := h.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	if !s.hold(conn) {
		return
	}
	defer s.letGo(conn)
	if a.Status != 0 {
		b := a.bytes(r.Method == http.MethodHead)
		n := a.After
		if n < 0 {
			n += len(b)
		}
		_, _ = conn.Write(b[:max(0, min(n, len(b)))])
	}
	switch a.End {
	case Reset:
		reset(conn)
	case Silence:
		_ = conn.SetDeadline(time.Time{})
		_, _ = io.Copy(io.Discard, rw) // until the client, or the server, closes it
	}
}

// reset makes Close send a reset where it can.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
}

// bytes is the answer on the wire.
func (a Answer) bytes(head bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", a.Status, http.StatusText(a.Status))
	h := a.Header.Clone()
	if h == nil {
		h = make(http.Header)
	}
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("Content-Length", strconv.Itoa(len(a.Body)))
	_ = h.Write(&b)
	b.WriteString("\r\n")
	if !head {
		b.Write(a.Body)
	}
	return b.Bytes()
}
