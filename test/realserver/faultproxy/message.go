//go:build linux

package faultproxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// message is a request or an answer, byte for byte.
type message struct {
	raw          []byte
	method, path string // of a request
	status       int    // of an answer
}

const maxHead = 1 << 20

func readRequest(br *bufio.Reader) (*message, error) {
	head, err := readHead(br)
	if err != nil {
		return nil, err
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return nil, err
	}
	m := &message{raw: head, method: r.Method, path: r.RequestURI}
	if chunked(r.TransferEncoding) {
		return m, m.readChunks(br)
	}
	return m, m.readBody(br, r.ContentLength)
}

// readAnswer reads the answer to a request with that method.
func readAnswer(br *bufio.Reader, method string) (*message, error) {
	head, err := readHead(br)
	if err != nil {
		return nil, err
	}
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	_ = r.Body.Close() // nothing is behind it: the body is read below
	m := &message{raw: head, status: r.StatusCode}
	switch {
	case method == http.MethodHead, r.StatusCode < 200, r.StatusCode == http.StatusNoContent, r.StatusCode == http.StatusNotModified:
		return m, nil
	case chunked(r.TransferEncoding):
		return m, m.readChunks(br)
	case r.ContentLength >= 0:
		return m, m.readBody(br, r.ContentLength)
	}
	rest, err := io.ReadAll(br)
	m.raw = append(m.raw, rest...)
	return m, err
}

func chunked(encodings []string) bool { return slices.Contains(encodings, "chunked") }

func readHead(br *bufio.Reader) ([]byte, error) {
	var head []byte
	for {
		line, err := br.ReadBytes('\n')
		if head = append(head, line...); err != nil {
			return nil, err
		}
		if len(head) > maxHead {
			return nil, errors.New("head too long")
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return head, nil
		}
	}
}

func (m *message) readBody(br *bufio.Reader, n int64) error {
	body := make([]byte, n)
	_, err := io.ReadFull(br, body)
	m.raw = append(m.raw, body...)
	return err
}

func (m *message) readChunks(br *bufio.Reader) error {
	for {
		line, err := br.ReadString('\n')
		if m.raw = append(m.raw, line...); err != nil {
			return err
		}
		size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		n, err := strconv.ParseInt(size, 16, 32)
		if err != nil {
			return fmt.Errorf("chunk: %w", err)
		}
		if n == 0 {
			trailer, err := readHead(br)
			m.raw = append(m.raw, trailer...)
			return err
		}
		if err := m.readBody(br, n+2); err != nil { // the line end too
			return err
		}
	}
}

// page is what nginx answers when the server behind it does not.
func page(k Kind) *message {
	status, title := 502, "502 Bad Gateway"
	if k == Unavailable {
		status, title = 503, "503 Service Temporarily Unavailable"
	}
	body := "<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title +
		"</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
	return &message{status: status, raw: fmt.Appendf(nil,
		"HTTP/1.1 %s\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%s",
		title, len(body), body)}
}
