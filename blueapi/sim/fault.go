package sim

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// An Exchange is one request on its way to the server. Faults must not change it.
type Exchange struct {
	// N counts the requests that reached the server, from 1.
	N      int
	Time   time.Time
	Method string
	URL    *url.URL
	Host   string
	Header http.Header
	Body   []byte
	// Status is that of the answer that the client got, as Exchanges tells it; 0
	// while there is none, and if it was lost or cut.
	Status int

	server *Server
}

// An Answer is what the client gets. Status 0 with an End is no answer at all.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	// End is what becomes of the connection.
	End End
	// After is how many bytes of the answer, its head included, are sent before
	// the End; negative, how many are not.
	After int

	session func(*websocket.Conn) // what follows an upgrade
}

// An End is what becomes of a connection.
type End int

const (
	// Whole sends the whole answer and keeps the connection.
	Whole End = iota
	// Reset resets the connection.
	Reset
	// Close closes it, which the client reads as an end of file.
	Close
	// Silence sends no more, and keeps the connection until the client closes it.
	Silence
)

// String is the end's name.
func (e End) String() string {
	names := [...]string{"whole", "reset", "close", "silence"}
	if e < 0 || int(e) >= len(names) {
		return fmt.Sprintf("end %d", int(e))
	}
	return names[e]
}

// A Fault stands before the server as a bad proxy does. It is called with each
// request; next has the server (or the fault injected after this one) deal with
// it, which takes as long as it takes, and may be called never, once or more
// often, also at the same time. What the fault returns goes to the client.
// Faults are called concurrently.
type Fault func(x *Exchange, next func() Answer) Answer

// A Match selects requests.
type Match func(*Exchange) bool

// Request matches a method and a path, whether or not under /api/v1. In either,
// * stands for any characters but /, as in Request("*", "/tasks/*").
func Request(method, pattern string) Match {
	return func(x *Exchange) bool { return x.hasMethod(method) && x.hasPath(pattern) }
}

func (x *Exchange) hasMethod(pattern string) bool {
	ok, _ := path.Match(pattern, x.Method)
	return ok
}

func (x *Exchange) hasPath(pattern string) bool {
	ok, _ := path.Match(pattern, strings.TrimPrefix(x.URL.Path, "/api/v1"))
	return ok
}

// When applies a fault to the requests that match.
func When(m Match, f Fault) Fault {
	return func(x *Exchange, next func() Answer) Answer {
		if m(x) {
			return f(x, next)
		}
		return next()
	}
}

// Nth applies a fault to the k-th request that gets to it, counted from 1.
func Nth(k int, f Fault) Fault {
	var n atomic.Int64
	return When(func(*Exchange) bool { return n.Add(1) == int64(k) }, f)
}

// First applies a fault to the first k requests that get to it.
func First(k int, f Fault) Fault {
	var n atomic.Int64
	return When(func(*Exchange) bool { return n.Add(1) <= int64(k) }, f)
}

// LoseRequest loses the request: the server never sees it.
func LoseRequest(end End) Fault {
	return func(*Exchange, func() Answer) Answer { return Answer{End: end} }
}

// LoseAnswer has the server do what was asked, and loses its answer.
func LoseAnswer(end End) Fault { return CutAnswer(0, end) }

// CutAnswer cuts the answer after n bytes, the status line being the first; or
// n bytes before its end, if n is negative.
func CutAnswer(n int, end End) Fault {
	return func(_ *Exchange, next func() Answer) Answer {
		a := next()
		a.End, a.After = end, n
		return a
	}
}

// Instead has the server do what was asked, and gives f's answer instead of its
// own, as in Instead(Status(504)).
func Instead(f Fault) Fault {
	return func(x *Exchange, next func() Answer) Answer {
		a := next()
		return f(x, func() Answer { return a })
	}
}

// Late delivers the request d after the client's connection has come to an end,
// or gone silent: the server deals with it when nobody waits for it any more.
func Late(d time.Duration, end End) Fault {
	return func(x *Exchange, next func() Answer) Answer {
		x.server.wait.Go(func() {
			if sleep(x.server.ctx, d) == nil {
				next()
			}
		})
		return Answer{End: end}
	}
}

// Twice delivers the request twice, the second time d after the first, as a
// proxy does that has lost patience. The client gets the second answer.
func Twice(d time.Duration) Fault {
	return func(x *Exchange, next func() Answer) Answer {
		x.server.wait.Go(func() { next() })
		if d > 0 && sleep(x.server.ctx, d) != nil {
			return Answer{End: Reset}
		}
		return next()
	}
}

// Delay holds the request for d before the server sees it.
func Delay(d time.Duration) Fault {
	return func(x *Exchange, next func() Answer) Answer {
		if sleep(x.server.ctx, d) != nil {
			return Answer{End: Reset}
		}
		return next()
	}
}

// Stall freezes the server for d when the request arrives, which is dealt with
// only then, with all others that have come meanwhile.
func Stall(d time.Duration) Fault {
	return func(x *Exchange, next func() Answer) Answer {
		x.server.Freeze()
		x.server.wait.Go(func() {
			_ = sleep(x.server.ctx, d)
			x.server.Unfreeze()
		})
		return next()
	}
}

// Status answers in the server's place, with the HTML of an ingress (nginx).
func Status(code int) Fault {
	return func(*Exchange, func() Answer) Answer {
		name := fmt.Sprintf("%d %s", code, statusText(code))
		body := "<html>\r\n<head><title>" + name + "</title></head>\r\n<body>\r\n<center><h1>" + name +
			"</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
		return Answer{Status: code, Header: http.Header{"Server": {"nginx"}, "Content-Type": {"text/html"}}, Body: []byte(body)}
	}
}

// statusText is nginx's, which differs from Go's in the codes of interest.
func statusText(code int) string {
	switch code {
	case 503:
		return "Service Temporarily Unavailable"
	case 504:
		return "Gateway Time-out"
	}
	return http.StatusText(code)
}
