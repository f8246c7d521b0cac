//go:build linux

package faultproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server answers with what it was asked, and remembers it.
type server struct {
	*httptest.Server
	mu    sync.Mutex
	lines []string
}

func newServer(t *testing.T) *server {
	s := new(server)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		line := fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body)
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
		if r.URL.Path == "/chunks" {
			for range 3 {
				fmt.Fprintln(w, line)
				w.(http.Flusher).Flush()
			}
			return
		}
		fmt.Fprint(w, line)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) saw() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

func newProxy(t *testing.T, upstream string) *Proxy {
	p, err := Listen(upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// client does not resend: net/http repeats a GET on a dead pooled connection,
// but no POST.
type client struct {
	*http.Client
	url string
}

func newClient(t *testing.T, p *Proxy) *client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &client{&http.Client{Transport: tr}, p.URL()}
}

// patience is how long a test waits to see that there is no answer.
const patience = 50 * time.Millisecond

func (c *client) post(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, strings.NewReader("body"))
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, b), err
}

// outcome sorts what became of a request.
func outcome(body string, err error) string {
	var ne net.Error
	switch {
	case err == nil && strings.Contains(body, "<center>nginx</center>"):
		return body[:3]
	case err == nil:
		return "answered"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return "silent"
	}
	return err.Error()
}

func (c *client) try(t *testing.T, path string) string {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return outcome(c.post(ctx, path))
}

func TestPassesThrough(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.URL)
	c := newClient(t, p)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete} {
		for _, path := range []string{"/plain", "/chunks"} {
			var body io.Reader
			if method == http.MethodPut {
				body = io.MultiReader(strings.NewReader("in "), strings.NewReader("chunks")) // of no known length
			}
			req, err := http.NewRequestWithContext(t.Context(), method, p.URL()+path, body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%s %s: %d, %v", method, path, resp.StatusCode, err)
			}
			if empty := len(got) == 0; empty != (method == http.MethodHead) {
				t.Errorf("%s %s: answered %q", method, path, got)
			}
		}
	}
	if saw := s.saw(); len(saw) != 8 || saw[4] != "PUT /plain in chunks" {
		t.Errorf("the server saw %q", saw)
	}
	reqs := p.Requests()
	if len(reqs) != 8 || reqs[7].Status != http.StatusOK || !reqs[7].Reached || reqs[7].Number != 8 {
		t.Errorf("recorded %+v", reqs)
	}
	if n := len(p.Sends()); n != 8 {
		t.Errorf("%d sends of 8 requests on one connection", n)
	}
}

// kinds are those that work here.
func kinds(t *testing.T) []Kind {
	var ks []Kind
	for _, k := range Kinds() {
		if k == Dropped {
			if err := CanDrop(); err != nil {
				t.Logf("no %v: %v", k, err)
				continue
			}
		}
		ks = append(ks, k)
	}
	return ks
}

func TestAtStart(t *testing.T) {
	during := map[Kind]string{
		Refused: "refused", Reset: "reset", BlackHole: "silent", BlackHoleKill: "silent",
		Dropped: "silent", Stalled: "silent", BadGateway: "502", Unavailable: "503",
	}
	for _, k := range kinds(t) {
		t.Run(k.String(), func(t *testing.T) {
			s := newServer(t)
			p := newProxy(t, s.URL)
			c := newClient(t, p)
			p.Arm(Outage{Kind: k, For: Forever})
			for range 2 {
				if got := c.try(t, "/x"); got != during[k] {
					t.Errorf("during the outage: %s, want %s", got, during[k])
				}
			}
			if saw := s.saw(); len(saw) > 0 {
				t.Errorf("the server saw %q during the outage", saw)
			}
			span := p.Outages()[0]
			if p.Counted() == nil {
				if n := MaxPerSecond(p.Sends(), span); n != 2 {
					t.Errorf("counted %d sends, want 2: %+v", n, p.Sends())
				}
			}
			p.End()
			if got := outcome(c.post(t.Context(), "/y")); got != "answered" {
				t.Errorf("after the outage: %s", got)
			}
			if span = p.Outages()[0]; span.End.IsZero() || len(p.Outages()) != 1 {
				t.Errorf("outages %+v", p.Outages())
			}
		})
	}
}

// TestAtRequest has one connection with a request answered, then an outage
// at the second request.
func TestAtRequest(t *testing.T) {
	type row struct{ told, then string }
	rows := map[Kind]row{ // what became of that request, and of one on the same connection after the outage
		Refused: {"reset", "answered"}, Reset: {"reset", "answered"},
		BlackHole: {"silent", "answered"}, Stalled: {"silent", "answered"}, Dropped: {"silent", "answered"},
		BlackHoleKill: {"silent", "silent"},
		BadGateway:    {"502", "answered"}, Unavailable: {"503", "answered"},
	}
	for _, k := range kinds(t) {
		for _, answered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/%v", k, answered), func(t *testing.T) {
				s := newServer(t)
				p := newProxy(t, s.URL)
				nc, err := net.Dial("tcp", p.addr.String())
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				br := bufio.NewReader(nc)
				ask := func(path string) { fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path) }
				hear := func(d time.Duration) (string, error) {
					if err := nc.SetReadDeadline(time.Now().Add(d)); err != nil {
						t.Fatal(err)
					}
					resp, err := http.ReadResponse(br, nil)
					if err != nil {
						return "", err
					}
					defer resp.Body.Close()
					b, err := io.ReadAll(resp.Body)
					return fmt.Sprintf("%d %s", resp.StatusCode, b), err
				}

				p.Arm(Outage{Kind: k, For: Forever, Request: 1, Path: "/two", Answered: answered})
				ask("/one")
				if got := outcome(hear(time.Second)); got != "answered" {
					t.Fatalf("before the outage: %s", got)
				}
				ask("/two")
				if got := outcome(hear(patience)); got != rows[k].told {
					t.Errorf("at the outage: %s, want %s", got, rows[k].told)
				}
				reached := 1
				if answered {
					reached = 2
				}
				if saw := s.saw(); len(saw) != reached {
					t.Errorf("the server saw %q, want %d requests", saw, reached)
				}
				if n := MaxPerSecond(p.Sends(), p.Outages()[0]); n != 0 {
					t.Errorf("the request at the outage was counted: %d", n)
				}
				p.End()
				if rows[k].told == "silent" && rows[k].then == "answered" {
					if got := outcome(hear(5 * time.Second)); got != "answered" {
						t.Errorf("held answer: %s", got)
					}
				}
				ask("/three")
				then := outcome(hear(5 * patience))
				if k == Refused || k == Reset {
					then = outcome(newClient(t, p).post(t.Context(), "/three"))
				}
				if then != rows[k].then {
					t.Errorf("after the outage: %s, want %s", then, rows[k].then)
				}
				if k == BlackHoleKill {
					if got := outcome(newClient(t, p).post(t.Context(), "/new")); got != "answered" {
						t.Errorf("a new connection after the outage: %s", got)
					}
				}
			})
		}
	}
}

func TestHeldRequestOutlivesItsClient(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.URL)
	p.Arm(Outage{Kind: Stalled, For: Forever})
	if got := newClient(t, p).try(t, "/late"); got != "silent" {
		t.Fatal(got)
	}
	p.End()
	waitFor(t, func() bool { return len(s.saw()) == 1 })
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("waited 10 s")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestDurationRunsFromTheFirstAttempt(t *testing.T) {
	p := newProxy(t, newServer(t).URL)
	if p.Counted() != nil {
		t.Skip(p.Counted())
	}
	p.Arm(Outage{Kind: Refused, For: patience})
	time.Sleep(2 * patience)
	c := newClient(t, p)
	if got := c.try(t, "/"); got != "refused" {
		t.Errorf("the outage was over before anyone met it: %s", got)
	}
	waitFor(t, func() bool { return !p.Outages()[0].End.IsZero() })
	if got := outcome(c.post(t.Context(), "/")); got != "answered" {
		t.Error(got)
	}
}

func TestDelay(t *testing.T) {
	p := newProxy(t, newServer(t).URL)
	p.Arm(Outage{Kind: Reset, For: time.Millisecond, Delay: time.Millisecond})
	waitFor(t, func() bool { o := p.Outages(); return len(o) == 1 && !o[0].End.IsZero() })
	if o := p.Outages()[0]; o.End.Sub(o.Begin) < time.Millisecond {
		t.Errorf("lasted %v", o.End.Sub(o.Begin))
	}
}

func TestTricks(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.URL)
	c := newClient(t, p)

	twin := p.Duplicate(http.MethodPost, "/task")
	if got := outcome(c.post(t.Context(), "/v1/task")); got != "answered" {
		t.Errorf("duplicated: %s", got)
	}
	if status := <-twin; status != http.StatusOK || len(s.saw()) != 2 {
		t.Errorf("the duplicate was answered %d; the server saw %q", status, s.saw())
	}

	p.LoseAnswer(http.MethodPost, "/task")
	if got := outcome(c.post(t.Context(), "/task")); got != "reset" || len(s.saw()) != 3 {
		t.Errorf("lost answer: %s; the server saw %q", got, s.saw())
	}

	late := p.DeliverLate(http.MethodPost, "/task", patience)
	if got := outcome(c.post(t.Context(), "/task")); got != "reset" || len(s.saw()) != 3 {
		t.Errorf("late: %s; the server saw %q", got, s.saw())
	}
	if status := <-late; status != http.StatusOK || len(s.saw()) != 4 {
		t.Errorf("the late one was answered %d; the server saw %q", status, s.saw())
	}

	p.HideAnswer(http.MethodPost, "/task")
	if got := outcome(c.post(t.Context(), "/task")); got != "502" || len(s.saw()) != 5 {
		t.Errorf("hidden answer: %s; the server saw %q", got, s.saw())
	}
	p.LoseRequest(http.MethodPost, "/task")
	if got := outcome(c.post(t.Context(), "/task")); got != "reset" || len(s.saw()) != 5 {
		t.Errorf("lost request: %s; the server saw %q", got, s.saw())
	}

	before := make(chan int, 1)
	p.BeforeLosing(http.MethodPost, "/task", func() { before <- len(s.saw()) })
	if got := outcome(c.post(t.Context(), "/task")); got != "reset" || <-before != 5 || len(s.saw()) != 6 {
		t.Errorf("lost answer, after a call: %s; the server saw %q", got, s.saw())
	}

	p.Repeat(http.MethodPost, "/task")
	if got := outcome(c.post(t.Context(), "/task")); got != "answered" || len(s.saw()) != 8 {
		t.Errorf("repeated: %s; the server saw %q", got, s.saw())
	}

	var called int
	p.Before(http.MethodPost, "/task", func() { called = len(s.saw()) })
	if got := outcome(c.post(t.Context(), "/task")); got != "answered" || called != 8 {
		t.Errorf("%s; called with %d", got, called)
	}
	if got := outcome(c.post(t.Context(), "/task")); got != "answered" {
		t.Errorf("a trick was played twice: %s", got)
	}
}

func TestServerClosesIdleConnection(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s.URL)
	nc, err := net.Dial("tcp", p.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	br := bufio.NewReader(nc)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	s.CloseClientConnections()
	if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want EOF", err)
	}
}

func TestMaxPerSecond(t *testing.T) {
	t0 := time.Unix(1e9, 0)
	at := func(ms ...int) (sends []Send) {
		for _, m := range ms {
			sends = append(sends, Send{At: t0.Add(time.Duration(m) * time.Millisecond)})
		}
		return sends
	}
	span := Span{Begin: t0, End: t0.Add(10 * time.Second)}
	for _, tt := range []struct {
		sends []Send
		want  int
	}{
		{nil, 0},
		{at(0), 0}, // the cause
		{at(1), 1},
		{at(1, 1000), 2},
		{at(1, 1001), 1}, // half open
		{at(500, 1, 900, 1400, 1499, 1500), 4},
		{at(9999, 10000, 10001), 1}, // afterwards
	} {
		if got := MaxPerSecond(tt.sends, span); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.sends, got, tt.want)
		}
	}
}

func TestCloseIsClean(t *testing.T) {
	for _, k := range kinds(t) {
		p, err := Listen(newServer(t).URL)
		if err != nil {
			t.Fatal(err)
		}
		p.Arm(Outage{Kind: k, For: Forever, Request: 1})
		newClient(t, p).try(t, "/")
		for range 2 {
			if err := p.Close(); err != nil {
				t.Errorf("%v: %v", k, err)
			}
		}
		if _, err := net.Dial("tcp", p.addr.String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v: still listening: %v", k, err)
		}
	}
}
