package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
	"github.com/adamant-go/adamant/retryhttp"
)

// headerWarning tells a caller what else is known of a control command that had its
// effect.
const headerWarning = "Adamant-Warning"

// What became of a request, in retryhttp.HeaderVerdict.
const (
	verdictNotSent   = "not-sent"
	verdictWithdrawn = "withdrawn"
	verdictUnknown   = "unknown"
)

// soon is when to ask again, in seconds: the least that Retry-After can say.
const soon = "1"

// reply is an answer as a whole. It is not changed once made: several callers may get
// it.
type reply struct {
	status int
	header http.Header
	body   []byte
	// spent tells that as much was tried as makes sense at once.
	spent bool
	// own tells that the gateway made it, and not the server.
	own bool
}

// like makes an answer in the place of the server's. What the header of seen, an answer
// of the server to the same caller, says of the server and of who may read its answers
// holds for this one too; nil if there was none.
func like(seen http.Header, status int, body any) reply {
	h := make(http.Header)
	for key, values := range seen {
		switch key {
		case "Date", "Content-Length", "Content-Encoding", "Content-Type", "Location", "Etag", "Last-Modified", "Set-Cookie", "Connection":
		default:
			h[key] = values
		}
	}
	h.Set("Content-Type", "application/json")
	return reply{status: status, header: h, body: marshal(body), own: true}
}

// marshal writes JSON as blueapi does: compact, and without escapes for HTML.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // plain structs and texts
	return bytes.TrimRight(b.Bytes(), "\n")
}

// detail is the body of blueapi's errors.
type detail struct {
	Detail any `json:"detail"`
}

// refuse is an answer of the gateway's own, in the form of blueapi's errors.
func refuse(seen http.Header, status int, text string) reply {
	return like(seen, status, detail{text})
}

// strange is the answer if the server's own is none of blueapi's, so that nothing was
// done.
func strange(seen http.Header) reply {
	return refuse(seen, http.StatusBadGateway, "the server does not answer as blueapi does").with(retryhttp.HeaderVerdict, verdictNotSent)
}

// with returns the answer with a header more.
func (a reply) with(key, value string) reply {
	a.header = a.header.Clone()
	a.header.Set(key, value)
	return a
}

// again marks the answer as the last of what was tried.
func (a reply) again() reply {
	a.spent = true
	return a
}

// to adds what a caller should know who may ask again: when that makes sense, and that
// it need not do at once what was done here. One who retries by itself has been left to
// do that.
func (a reply) to(c *caller) reply {
	if !a.spent || c.nested {
		return a
	}
	return a.with("Retry-After", soon).with("X-Should-Retry", "false")
}

func (a reply) response(r *http.Request) *http.Response {
	h := a.header.Clone()
	if bodyAllowed(a.status) && r.Method != http.MethodHead {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	return &http.Response{
		StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h,
		Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}
}

func (a reply) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

func bodyAllowed(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}

// failed is the answer to a call that failed.
func failed(err error, safety retry.Safety) reply {
	if answer, ok := lastAnswer(err); ok {
		return answer
	}
	tries, ok := errors.AsType[*retry.Error](err)
	switch {
	case !ok: // it did not come to a call
		return refuse(nil, http.StatusServiceUnavailable, err.Error()).with(retryhttp.HeaderVerdict, verdictNotSent).with("Retry-After", soon)
	case !tries.Sent:
		return refuse(nil, http.StatusServiceUnavailable, err.Error()).with(retryhttp.HeaderVerdict, verdictNotSent).again()
	case safety == retry.Once:
		return refuse(nil, http.StatusGatewayTimeout, err.Error()).with(retryhttp.HeaderVerdict, verdictUnknown).with("X-Should-Retry", "false")
	}
	return refuse(nil, http.StatusServiceUnavailable, err.Error()).again()
}

// refusalOf is the answer to a caller of a request that the server itself refused, or
// of an error that has another cause.
func refusalOf(seen http.Header, err error) (reply, bool) {
	cause := err
	if tries, ok := errors.AsType[*retry.Error](err); ok {
		cause = tries.Err
	}
	e, ok := errors.AsType[*blueapi.Error](cause)
	if !ok || e.Foreign || e.Status < http.StatusBadRequest || e.Status >= http.StatusInternalServerError {
		return reply{}, false
	}
	if e.Fields != nil {
		return like(seen, e.Status, detail{e.Fields}), true
	}
	return refuse(seen, e.Status, e.Detail), true
}
