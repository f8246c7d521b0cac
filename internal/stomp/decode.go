package stomp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
)

// Limits bound what a decoder accepts. Zero fields mean the defaults.
type Limits struct {
	// Headers is how many a frame may have; zero means 256.
	Headers int
	// Line is how many bytes a line of the head may have; zero means 16 KiB.
	Line int
	// Body is how many bytes a body may have; zero means 32 MiB.
	Body int
}

func (l Limits) withDefaults() Limits {
	if l.Headers == 0 {
		l.Headers = 256
	}
	if l.Line == 0 {
		l.Line = 16 << 10
	}
	if l.Body == 0 {
		l.Body = 32 << 20
	}
	return l
}

// A Decoder reads frames from a stream. It must not be used concurrently.
type Decoder struct {
	// Version is what was agreed on; empty means 1.2. It may be set between
	// frames.
	Version Version

	r      *bufio.Reader
	limits Limits
	head   []byte // scratch: the names and values of the frame at hand
	ends   []int  // scratch: where they end in head
}

// NewDecoder returns a decoder that reads from r.
func NewDecoder(r io.Reader, l Limits) *Decoder {
	l = l.withDefaults()
	return &Decoder{r: bufio.NewReaderSize(r, max(32<<10, l.Line+2)), limits: l}
}

// Decode returns the next frame, and skips the ends of line between frames,
// which are heart-beats.
//
// The error is io.EOF if the stream ends between frames, io.ErrUnexpectedEOF if
// it ends within one, a *[ProtocolError] for what is no frame, a *[LimitError],
// or what the reader returned. If only the body is over its limit, the frame
// comes too, without its body, and the decoder goes on behind it.
func (d *Decoder) Decode() (*Frame, error) {
	if err := d.skipEOLs(); err != nil {
		return nil, err
	}
	f, err := d.frame()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return f, err
}

func (d *Decoder) skipEOLs() error {
	for {
		c, err := d.r.ReadByte()
		if err == nil && c == '\r' {
			if c, err = d.r.ReadByte(); err == nil && c != '\n' {
				return malformed("a carriage return between frames")
			}
		}
		if err != nil {
			return err
		}
		if c != '\n' {
			return d.r.UnreadByte()
		}
	}
}

func (d *Decoder) frame() (*Frame, error) {
	line, err := d.line()
	if err != nil {
		return nil, err
	}
	name, known := command(line)
	if !known { // the escaping depends on the command: try the line without a CR
		if name, known = command(bytes.TrimSuffix(line, []byte{'\r'})); !known || !escapingOf(name, d.Version).trailing {
			return nil, malformed("%s is no STOMP command", printable(line))
		}
	}
	f := &Frame{Command: name}
	if err := d.headers(f, escapingOf(name, d.Version)); err != nil {
		return nil, err
	}
	return f, d.body(f)
}

// line returns a line without its line feed. It is valid until the next read.
func (d *Decoder) line() ([]byte, error) {
	line, err := d.r.ReadSlice('\n')
	if len(line) > d.limits.Line+1 || errors.Is(err, bufio.ErrBufferFull) {
		return nil, &LimitError{What: "line", Limit: d.limits.Line}
	}
	if err != nil {
		return nil, err
	}
	return line[:len(line)-1], nil
}

func (d *Decoder) headers(f *Frame, esc escaping) error {
	d.head, d.ends = d.head[:0], d.ends[:0]
	for {
		line, err := d.line()
		if err != nil {
			return err
		}
		if esc.trailing {
			line = bytes.TrimSuffix(line, []byte{'\r'})
		}
		if len(line) == 0 {
			break
		}
		if len(d.ends) == 2*d.limits.Headers {
			return &LimitError{What: "headers", Limit: d.limits.Headers}
		}
		if err := d.header(f.Command, line, esc); err != nil {
			return err
		}
	}
	if len(d.ends) == 0 {
		return nil
	}
	text := string(d.head) // all names and values in one allocation
	f.Headers = make([]Header, len(d.ends)/2)
	begin := 0
	for i := range f.Headers {
		colon, end := d.ends[2*i], d.ends[2*i+1]
		f.Headers[i] = Header{Name: text[begin:colon], Value: text[colon:end]}
		begin = end
	}
	return nil
}

// header appends a name and a value to the scratch buffers.
func (d *Decoder) header(command string, line []byte, esc escaping) error {
	name, value, ok := bytes.Cut(line, []byte{':'})
	switch {
	case bytes.IndexByte(line, 0) >= 0:
		return malformed("%s has a NUL byte in its headers", command)
	case !ok:
		return malformed("%s has a header without a colon", command)
	case len(name) == 0:
		return malformed("%s has a header without a name", command)
	case esc.trailing && bytes.IndexByte(line, '\r') >= 0:
		return malformed("%s has a bare carriage return in header %s", command, printable(name))
	}
	for _, part := range [...][]byte{name, value} {
		var err error
		if d.head, err = esc.unescape(d.head, part); err != nil {
			return malformed("%s has an undefined escape sequence in header %s", command, printable(name))
		}
		d.ends = append(d.ends, len(d.head))
	}
	return nil
}

var errEscape = errors.New("undefined escape sequence")

func (e escaping) unescape(dst, s []byte) ([]byte, error) {
	if !e.on {
		return append(dst, s...), nil
	}
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(dst, s...), nil
		}
		if i+1 == len(s) {
			return dst, errEscape
		}
		dst = append(dst, s[:i]...)
		switch c := s[i+1]; {
		case c == '\\':
			dst = append(dst, '\\')
		case c == 'n':
			dst = append(dst, '\n')
		case c == 'c':
			dst = append(dst, ':')
		case c == 'r' && e.cr:
			dst = append(dst, '\r')
		default:
			return dst, errEscape
		}
		s = s[i+2:]
	}
}

func (d *Decoder) body(f *Frame) error {
	length, given := f.Lookup("content-length")
	if !given {
		return d.bodyToNUL(f)
	}
	n, err := contentLength(length)
	if err != nil {
		return err
	}
	if n > d.limits.Body {
		if _, err := io.CopyN(io.Discard, d.r, int64(n)); err != nil {
			return err
		}
		if err := d.nul(f); err != nil {
			return err
		}
		return &LimitError{What: "body", Limit: d.limits.Body}
	}
	// The buffer grows with what arrives, not with what was announced.
	const step = 64 << 10
	for len(f.Body) < n {
		at := len(f.Body)
		more := min(n-at, max(step, at))
		f.Body = slices.Grow(f.Body, more)[:at+more]
		if _, err := io.ReadFull(d.r, f.Body[at:]); err != nil {
			return err
		}
	}
	return d.nul(f)
}

func (d *Decoder) nul(f *Frame) error {
	c, err := d.r.ReadByte()
	if err == nil && c != 0 {
		err = malformed("the body of %s is longer than its content-length", f.Command)
	}
	return err
}

func (d *Decoder) bodyToNUL(f *Frame) error {
	over := false
	for {
		part, err := d.r.ReadSlice(0)
		whole := err == nil
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if whole {
			part = part[:len(part)-1]
		}
		over = over || len(f.Body)+len(part) > d.limits.Body
		if over {
			f.Body = nil
		} else if len(part) > 0 {
			f.Body = append(f.Body, part...)
		}
		if whole && over {
			return &LimitError{What: "body", Limit: d.limits.Body}
		}
		if whole {
			return nil
		}
	}
}
