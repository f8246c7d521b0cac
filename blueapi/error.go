package blueapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/adamant-go/adamant/retry"
)

// Error is a refusal by the server itself, or an answer that is not blueapi's.
type Error struct {
	// Op is the operation, such as "GET /plans/{name}".
	Op string
	// Status is that of the HTTP response.
	Status int
	// Detail is what the server says about it.
	Detail string
	// Fields are the complaints of a 422, in the server's order.
	Fields []InvalidField
	// Foreign tells that the answer did not come from a blueapi server: a
	// login page or a proxy's, for instance.
	Foreign bool
	// NoWebSocket tells that the server, or a proxy on the way, has no WebSocket for
	// runs: nothing was asked of it.
	NoWebSocket bool

	hasDetail bool // the body had the form of blueapi's refusals
}

// InvalidField is one complaint about a request.
type InvalidField struct {
	// Loc says where: "body", "params", and the name of the parameter, then
	// further steps into it. Steps are strings and numbers.
	Loc []any `json:"loc"`
	// Msg is for people.
	Msg string `json:"msg"`
	// Type is for programs, such as "missing" or "extra_forbidden".
	Type string `json:"type"`
	// Input is what was given.
	Input json.RawMessage `json:"input"`
}

func (e *Error) Error() string {
	detail := e.Detail
	if len(e.Fields) > 0 {
		complaints := make([]string, len(e.Fields))
		for i, f := range e.Fields {
			steps := make([]string, len(f.Loc))
			for j, step := range f.Loc {
				steps[j] = fmt.Sprint(step)
			}
			complaints[i] = strings.Join(steps, ".") + ": " + f.Msg
		}
		detail = strings.Join(complaints, "; ")
	}
	if e.Foreign {
		return fmt.Sprintf("%s: %d %s, but not from a blueapi server: %s", e.Op, e.Status, http.StatusText(e.Status), detail)
	}
	return fmt.Sprintf("%s: %d %s: %s", e.Op, e.Status, http.StatusText(e.Status), detail)
}

// refusalOf finds the refusal of the server that ended a call. The refusals of
// earlier attempts do not count.
func refusalOf(err error) *Error {
	if tries, ok := errors.AsType[*retry.Error](err); ok {
		err = tries.Err
	}
	e, _ := errors.AsType[*Error](err)
	return e
}

// statusOf is the status with which the server itself refused, or 0.
func statusOf(err error) int {
	if e := refusalOf(err); e != nil && !e.Foreign {
		return e.Status
	}
	return 0
}

func denied(err error) bool {
	status := statusOf(err)
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

func isNotFound(err error) bool { return statusOf(err) == http.StatusNotFound }

// errorOf reads the body of a refusal.
func errorOf(op string, status int, body []byte) *Error {
	e := &Error{Op: op, Status: status}
	var answer struct {
		Detail json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(body, &answer) == nil && answer.Detail != nil {
		e.hasDetail = true
		if json.Unmarshal(answer.Detail, &e.Detail) != nil && json.Unmarshal(answer.Detail, &e.Fields) != nil {
			e.Detail = string(answer.Detail)
		}
		return e
	}
	e.Detail = excerpt(body)
	return e
}

// unexpected is the error of an answer that blueapi would not give.
func unexpected(op string, answer []byte) *Error {
	return &Error{Op: op, Status: http.StatusOK, Foreign: true, Detail: "unexpected answer: " + excerpt(answer)}
}

// excerpt is the beginning of a text that may be long, in one line.
func excerpt(b []byte) string {
	const most = 120
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(b[:min(len(b), 4*most)]), "?")), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

func parseURL(s string) (*url.URL, error) {
	if s == "" {
		s = DefaultURL
	}
	u, err := url.Parse(s)
	at := strings.LastIndex(s, "@")
	if e, ok := errors.AsType[*url.Error](err); ok {
		if at >= 0 { // the cause quotes what is taken for a port
			e.Err = errors.New("a password needs %23 for #, %2F for /, %3F for ?")
		}
		return nil, fmt.Errorf("blueapi: bad server URL: %w", e.Err) // without the URL: it may hold a password
	}
	s = s[at+1:]
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("blueapi: bad server URL %q: it must begin with http:// or https://", s)
	case u.Host == "":
		return nil, fmt.Errorf("blueapi: bad server URL %q: it names no host", s)
	}
	return u, nil
}
