package retryhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/adamant-go/adamant/retry"
)

// replayable returns r, or a copy of it whose body can be had again. Bodies with
// GetBody are left alone; others are read into memory up to limit.
func replayable(r *http.Request, limit int64) (*http.Request, error) {
	if r.Body == nil || r.Body == http.NoBody || r.GetBody != nil {
		return r, nil
	}
	defer closeBody(r)
	if r.ContentLength > limit {
		return nil, fmt.Errorf("retryhttp: a body of %d bytes without GetBody is longer than the %d that are kept for a resend: set Request.GetBody or Transport.RequestLimit", r.ContentLength, limit)
	}
	body := r.Body // r is changed below, and would be put on the heap for every call
	stop := context.AfterFunc(r.Context(), func() { _ = body.Close() })
	b, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if !stop() {
		return nil, r.Context().Err()
	}
	if err != nil {
		return nil, fmt.Errorf("retryhttp: reading the request body: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("retryhttp: a body without GetBody is longer than the %d bytes that are kept for a resend: set Request.GetBody or Transport.RequestLimit", limit)
	}
	r = r.WithContext(r.Context())
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	r.Body, _ = r.GetBody()
	return r, nil
}

// whole tells which responses are read before they are handed on, so that one
// that is cut off is an attempt that failed: those that say how long they are,
// and JSON, which is of no use in part. Streams are not.
func whole(resp *http.Response, limit int64) bool {
	if resp.Body == nil || resp.Body == http.NoBody || resp.ContentLength > limit || resp.StatusCode == http.StatusSwitchingProtocols {
		return false
	}
	if resp.ContentLength >= 0 {
		return true
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// errTooLong tells that a body does not fit.
var errTooLong = errors.New("retryhttp: body too long")

// ReadBody reads a body to its end, up to limit bytes, telling the attempt of
// each part that arrives. The error is that of the connection, or io.EOF wrapped
// nowhere: a body that ends too early gives io.ErrUnexpectedEOF.
func ReadBody(body io.Reader, a retry.Attempt, limit int64) ([]byte, error) {
	var buf bytes.Buffer
	_, err := io.Copy(&buf, &heardReader{io.LimitReader(body, limit+1), a})
	if err == nil && int64(buf.Len()) > limit {
		err = errTooLong
	}
	return buf.Bytes(), err
}

type heardReader struct {
	io.Reader
	attempt retry.Attempt
}

func (r *heardReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.attempt.Heard()
	}
	return n, err
}

// buffer replaces the body of a response by its bytes. If it is longer than
// limit, the rest is left to be read from the connection.
func buffer(resp *http.Response, a retry.Attempt, limit int64) error {
	b, err := ReadBody(resp.Body, a, limit)
	if errors.Is(err, errTooLong) {
		resp.Body = &joinedBody{io.MultiReader(bytes.NewReader(b), resp.Body), resp.Body}
		return nil
	}
	_ = resp.Body.Close()
	body := new(bytesBody)
	body.Reset(b)
	resp.Body = body
	return err
}

// bytesBody is a body that is in memory.
type bytesBody struct{ bytes.Reader }

func (*bytesBody) Close() error { return nil }

// onClose returns body, which calls done when it has been read to its end or
// closed. The body of an upgraded connection stays writable.
func onClose(body io.ReadCloser, done func()) io.ReadCloser {
	b := &closingBody{body, done}
	if w, ok := body.(io.Writer); ok {
		return struct {
			*closingBody
			io.Writer
		}{b, w}
	}
	return b
}

type closingBody struct {
	io.ReadCloser
	done func()
}

func (b *closingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.done()
	}
	return n, err
}

func (b *closingBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}

// joinedBody reads what was read before and then the rest.
type joinedBody struct {
	io.Reader
	io.Closer
}
