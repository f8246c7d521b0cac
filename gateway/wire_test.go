package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/memnet"
)

// echo is a server that answers as it is told, and a gateway before it.
type echo struct {
	world
	back memnet.Network

	mu   sync.Mutex
	seen []*http.Request
}

// newEcho makes one. A nil handler answers with an empty JSON object.
func newEcho(t *testing.T, upstream string, h http.HandlerFunc) *echo {
	t.Helper()
	e := &echo{world: world{T: t}}
	serve(t, &e.back, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		e.mu.Lock()
		e.seen = append(e.seen, r)
		e.mu.Unlock()
		w.Header().Set("X-Blueapi-Version", "1.21.1")
		w.Header().Set("Content-Type", "application/json")
		if h != nil {
			h(w, r)
			return
		}
		fmt.Fprint(w, "{}")
	}))
	dial := newCaller(t, &e.back, "gateway.example:80").http.Transport.(*http.Transport).DialContext
	e.gateway = &gateway.Gateway{Upstream: upstream, Transport: &http.Transport{DialContext: dial}}
	e.addr = serve(t, &e.front, e.gateway)
	e.caller = newCaller(t, &e.front, e.addr)
	t.Cleanup(func() {
		e.caller.http.CloseIdleConnections()
		e.gateway.Close()
	})
	return e
}

func (e *echo) last() *http.Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.seen) == 0 {
		return nil
	}
	return e.seen[len(e.seen)-1]
}

func (e *echo) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.seen)
}

// raw writes bytes to the gateway and reads what comes back until nothing does.
func (e *echo) raw(request string) string {
	conn, err := e.front.DialContext(e.Context(), "tcp", e.addr)
	if err != nil {
		e.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		e.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	b, _ := io.ReadAll(conn)
	return string(b)
}

// TestSmuggling: a request whose end can be seen in two ways is one request, or none.
func TestSmuggling(t *testing.T) {
	const hidden = "DELETE /environment HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, request := range map[string]string{
		"both lengths":      "POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + "X",
		"chunked, and more": "POST /tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: " + fmt.Sprint(5+len(hidden)) + "\r\n\r\n0\r\n\r\n" + strings.Replace(hidden, "DELETE", "XDELETE", 1),
		"two lengths":       "POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n" + hidden,
		"odd coding":        "POST /tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden,
		"coding twice":      "POST /tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden,
		"spaced name":       "POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length : 44\r\n\r\n" + hidden,
		"folded":            "POST /tasks HTTP/1.1\r\nHost: x\r\nX: y\r\n Content-Length: 44\r\n\r\n",
		"signed length":     "POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: +44\r\n\r\n" + hidden,
		"a line in a name":  "GET /plans HTTP/1.1\r\nHost: x\r\nX\ry: z\r\n\r\n",
		"two hosts":         "GET /plans HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"odd host":          "GET /plans HTTP/1.1\r\nHost: x/../y z\r\n\r\n",
		"a space in a path": "GET /plans HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"bare line feeds":   "POST /tasks HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEcho(t, "http://blueapi.example", nil)
				got := e.raw(request)
				for _, r := range e.seen {
					if r.Method == http.MethodDelete || r.Header.Get("Transfer-Encoding") != "" || r.ContentLength < 0 || len(r.TransferEncoding) > 0 {
						t.Errorf("%s %s %v got through: %q", r.Method, r.URL, r.Header, got)
					}
				}
				if n := e.count(); n > 1 {
					t.Errorf("%d requests: %q", n, got)
				}
				if !strings.HasPrefix(got, "HTTP/1.1 ") {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

// TestPaths: a path that means one thing here and another to a server or a proxy behind
// is not passed on, or only as what it means there.
func TestPaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEcho(t, "http://blueapi.example", nil)
		for path, want := range map[string]string{ // what is asked for behind, "" for nothing
			"/plans":                          "/plans",
			"/plans/a%20b":                    "/plans/a%20b",
			"/plans/a%252Fb":                  "/plans/a%252Fb",
			"/plans/%E2%82%AC":                "/plans/%E2%82%AC",
			"/worker%2Fstate":                 "/worker/state",
			"/%77orker/state":                 "/worker/state",
			"/api%2Fv1/worker/state":          "/api/v1/worker/state",
			"/plans?x=1&y=%2F;z":              "/plans?x=1&y=%2F;z",
			"/plans/":                         "/plans/",
			"/other/%2Fx?a=b;c":               "",
			"/other%3Fx":                      "/other%3Fx",
			"//plans":                         "",
			"/worker//state":                  "",
			"/worker/./state":                 "",
			"/x/../worker/state":              "",
			"/x/%2e%2e/worker/state":          "",
			"/x/%2E%2e%2Fworker/state":        "",
			"/x\\..\\worker":                  "",
			"/x%5c..%5cworker":                "",
			"/..":                             "",
			"http://elsewhere.example/plans":  "/plans",
			"http://elsewhere.example//plans": "",
		} {
			before := e.count()
			got := e.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			switch {
			case want == "" && (e.count() != before || !strings.HasPrefix(got, "HTTP/1.1 404 ")):
				t.Errorf("%s: passed on, %q", path, got)
			case want != "" && (e.count() != before+1 || e.last().RequestURI != want):
				t.Errorf("%s: %s, want %s: %q", path, e.last().RequestURI, want, got)
			case want != "" && e.last().Host != "blueapi.example":
				t.Errorf("%s: host %s", path, e.last().Host)
			}
		}
		for _, request := range []string{
			"CONNECT blueapi.example:443 HTTP/1.1\r\nHost: blueapi.example:443\r\n\r\n", "TRACE /plans HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET * HTTP/1.1\r\nHost: x\r\n\r\n", "GET plans HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			before := e.count()
			if got := e.raw(request); e.count() != before || !strings.HasPrefix(got, "HTTP/1.1 4") {
				t.Errorf("%q: passed on, %q", request, got)
			}
		}
	})
}

// TestStartsInDisguise: a request to start a plan that is written in another way is
// dealt with as one, or sent no more than once.
func TestStartsInDisguise(t *testing.T) {
	for name, request := range map[string]struct{ path, kind, body string }{
		"escaped":       {"/worker%2Ftask", "application/json", `{"task_id":"ID"}`},
		"versioned":     {"/api/v1/worker/task", "application/json", `{"task_id":"ID"}`},
		"escaped body":  {"/worker/task", "application/json; charset=utf-8", `{"\u0074ask_id":"ID"}`},
		"twice":         {"/worker/task", "application/json", `{"task_id":"x","task_id":"ID"}`},
		"other charset": {"/worker/task", "application/json", "\xef\xbb\xbf" + `{"task_id":"ID"}`},
		"other kind":    {"/worker/task", "application/x+json", `{"task_id":"ID"}`},
		"other case":    {"/worker/task", "application/json", `{"Task_ID":"ID"}`},
		"with a query":  {"/worker/task?x=1", "application/json", `{"task_id":"ID"}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				id := w.caller.submit(nap)
				lost := 0
				w.Inject(loseStarts(&lost))
				a := w.caller.ask(t.Context(), "PUT", request.path, strings.ReplaceAll(request.body, "ID", id), "Content-Type", request.kind)
				if a.err != nil {
					t.Error(a)
				}
				time.Sleep(time.Minute)
				if lost > 1 || len(w.Runs()) > 1 {
					t.Errorf("%d requests, %d runs: %v", lost, len(w.Runs()), a)
				}
			})
		})
	}
}

// TestHeaders: what is meant for the server reaches it, and what is meant for the
// gateway does not; and back.
func TestHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEcho(t, "http://user:secret@blueapi.example", func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Add("Set-Cookie", "a=1")
			h.Add("Set-Cookie", "b=2")
			h.Set("Access-Control-Allow-Origin", "https://ui.example")
			h.Set("Vary", "Origin")
			h.Set("Keep-Alive", "timeout=5")
			h.Set("Connection", "X-Hop")
			h.Set("X-Hop", "1")
			h.Set("Server", "uvicorn")
			fmt.Fprint(w, "{}")
		})
		for _, path := range []string{"/plans", "/nonesuch"} {
			got := e.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nProxy-Authorization: secret\r\nTE: trailers\r\n" +
				"Keep-Alive: 5\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nForwarded: for=1\r\nOrigin: https://ui.example\r\n" +
				"Authorization: Bearer t\r\nCookie: c=1; d=2\r\nTraceparent: 00-1-1-01\r\nTracestate: s\r\nUser-Agent: mine\r\nX-Own: 1\r\nX-Own: 2\r\n" +
				"Accept: text/html\r\n\r\n")
			h := e.last().Header
			for key, want := range map[string]string{
				"Authorization": "Bearer t", "Cookie": "c=1; d=2", "Traceparent": "00-1-1-01", "Tracestate": "s", "User-Agent": "mine", "X-Own": "1,2",
				"Origin": "https://ui.example", "Accept": "text/html", "X-Mine": "", "Proxy-Authorization": "", "Keep-Alive": "",
				"X-Forwarded-For": "", "X-Forwarded-Proto": "", "Forwarded": "", "Accept-Encoding": "",
			} {
				if got := strings.Join(h.Values(key), ","); got != want {
					t.Errorf("%s: %s: %q, want %q", path, key, got, want)
				}
			}
			if !strings.HasPrefix(h.Get("Retry-Layer"), "adamant") {
				t.Errorf("%s: Retry-Layer: %q", path, h.Get("Retry-Layer"))
			}
			resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
			if err != nil {
				t.Fatal(err)
			}
			for key, want := range map[string]string{
				"Set-Cookie": "a=1,b=2", "Access-Control-Allow-Origin": "https://ui.example", "Vary": "Origin", "X-Blueapi-Version": "1.21.1",
				"Server": "uvicorn", "X-Hop": "", "Keep-Alive": "",
			} {
				if got := strings.Join(resp.Header.Values(key), ","); got != want {
					t.Errorf("%s: answered %s: %q, want %q", path, key, got, want)
				}
			}
		}
		for _, path := range []string{"/plans", "/nonesuch"} {
			e.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if agent := e.last().Header.Values("User-Agent"); len(agent) > 0 {
				t.Errorf("%s: who does not say what it is is %q", path, agent)
			}
		}
		e.caller.get("/plans")
		if user, password, ok := e.last().BasicAuth(); !ok || user != "user" || password != "secret" {
			t.Errorf("who says nothing is %q", e.last().Header.Get("Authorization"))
		}
		if s := fmt.Sprintf("%+v", e.gateway.Status()); strings.Contains(s, "secret") {
			t.Error(s)
		}
	})
}

// TestLocation: a URL of the server's is one of the gateway's; another is left alone.
func TestLocation(t *testing.T) {
	const here = "/nonesuch" // the path that is asked for
	for _, tc := range []struct{ upstream, location, want string }{
		{"http://blueapi.example", "http://blueapi.example/tasks/1", "http://gateway.example/tasks/1"},
		{"http://blueapi.example/beam", "http://blueapi.example/beam/tasks/1?x=%2F", "http://gateway.example/tasks/1?x=%2F"},
		{"http://blueapi.example/beam", "/beam/docs", "/docs"},
		{"http://blueapi.example/beam", "http://blueapi.example/else", "http://blueapi.example/else"},
		{"http://blueapi.example", "/docs", "/docs"},
		{"http://blueapi.example", "https://login.example/?rd=x", "https://login.example/?rd=x"},
		{"http://blueapi.example", "http://blueapi.example:8000/x", "http://blueapi.example:8000/x"},
		{"http://blueapi.example", "https://blueapi.example" + here, "https://blueapi.example" + here},
	} {
		synctest.Test(t, func(t *testing.T) {
			for _, path := range []string{here, "/plans"} {
				to := strings.NewReplacer(here, path)
				e := newEcho(t, tc.upstream, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", to.Replace(tc.location))
					w.WriteHeader(http.StatusTemporaryRedirect)
				})
				if a := e.caller.get(path); a.header.Get("Location") != to.Replace(tc.want) {
					t.Errorf("%s: %s from %s: %q, want %q", path, tc.location, tc.upstream, a.header.Get("Location"), to.Replace(tc.want))
				}
			}
		})
	}
}

// TestStreamed: an answer of a path that is not known comes as it is made, and one that
// is cut off is seen to be.
func TestStreamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEcho(t, "http://blueapi.example", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 3 {
				fmt.Fprintf(w, "%d\n", i)
				_ = http.NewResponseController(w).Flush()
				time.Sleep(3 * time.Second)
			}
			panic(http.ErrAbortHandler)
		})
		begin := time.Now()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://gateway.example/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := e.caller.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		for i := range 3 {
			line, err := lines.ReadString('\n')
			if at := time.Since(begin); err != nil || line != fmt.Sprintf("%d\n", i) || at.Truncate(time.Second) != time.Duration(i)*3*time.Second {
				t.Errorf("%q, %v at %v", line, err, at)
			}
		}
		if _, err := lines.ReadString('\n'); err == nil || err == io.EOF {
			t.Errorf("the end: %v", err)
		}
	})
}

// TestTooLarge: a request that is too large is refused, however its length is told.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEcho(t, "http://blueapi.example", nil)
		e.gateway.MaxBody = 1000
		for _, size := range []int{1000, 1001} {
			for _, path := range []string{"/tasks", "/nonesuch"} {
				for _, chunked := range []bool{false, true} {
					var in io.Reader = strings.NewReader(strings.Repeat("x", size))
					if chunked {
						in = io.MultiReader(in)
					}
					r := httptest.NewRequestWithContext(t.Context(), "POST", "http://gateway.example"+path, in)
					r.RequestURI = ""
					resp, err := e.caller.http.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					if want := map[int]int{1000: 200, 1001: 413}[size]; resp.StatusCode != want {
						t.Errorf("%d bytes to %s, chunked %v: %d", size, path, chunked, resp.StatusCode)
					}
				}
			}
		}
		if n := e.count(); n != 4 {
			t.Errorf("%d were passed on", n)
		}
		if e.last().ContentLength != 1000 {
			t.Errorf("%d bytes", e.last().ContentLength)
		}
	})
}

// TestLoginPage: what a proxy before the server says instead of it is the caller's, as
// it is.
func TestLoginPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEcho(t, "http://blueapi.example", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Del("X-Blueapi-Version")
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Location", "https://login.example/")
			w.Header().Add("Set-Cookie", "csrf=1")
			w.WriteHeader(http.StatusFound)
			fmt.Fprint(w, "<html>")
		})
		for i, q := range [][2]string{{"GET", "/plans"}, {"POST", "/tasks"}, {"PUT", "/worker/state"}, {"DELETE", "/environment"}} {
			body := map[string]string{"POST": nap, "PUT": `{"new_state":"ABORTING"}`}[q[0]]
			a := e.caller.ask(t.Context(), q[0], q[1], body)
			if a.status != 302 || a.header.Get("Location") != "https://login.example/" || a.body != "<html>" || a.header.Get("Set-Cookie") == "" {
				t.Errorf("%v: %v", q, a)
			}
			if n := e.count(); n != i+1 {
				t.Errorf("%v: %d requests", q, n)
			}
		}
	})
}

// TestNothingIsLeftOfSecrets: what a caller bears shows in no record, status or error.
func TestNothingIsLeftOfSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.caller.get("/environment")
		w.Network().Set(memnet.Kill)
		const secret = "s3cret"
		for _, q := range [][2]string{{"GET", "/plans"}, {"GET", "/nonesuch"}, {"POST", "/tasks"}, {"PUT", "/worker/task"}, {"PUT", "/worker/state"}, {"DELETE", "/environment"}} {
			body := map[string]string{"/worker/task": `{"task_id":"x"}`, "/worker/state": `{"new_state":"PAUSED"}`, "/tasks": nap}[q[1]]
			a := w.caller.ask(t.Context(), q[0], q[1]+"?token="+secret, body, "Authorization", "Bearer "+secret, "Cookie", "a="+secret)
			if a.status != 503 || strings.Contains(a.body, secret) {
				t.Errorf("%v: %v", q, a)
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if s := fmt.Sprintf("%+v %+v", w.records, w.gateway.Status()); strings.Contains(s, secret) {
			t.Error(s)
		}
		if len(w.records) != 7 || slices.ContainsFunc(w.records[1:], func(r gateway.Record) bool { return r.Status != 503 || r.Verdict != "not-sent" }) {
			t.Errorf("%+v", w.records)
		}
	})
}

// TestCookiesAreNotShared: an answer that sets a cookie is for the one who asked.
func TestCookiesAreNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		e := newEcho(t, "http://blueapi.example", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(100 * time.Millisecond)
			w.Header().Set("Set-Cookie", fmt.Sprintf("session=%d", n.Add(1)))
			fmt.Fprint(w, "{}")
		})
		var all sync.WaitGroup
		var seen sync.Map
		for range 20 {
			all.Go(func() {
				a := e.caller.get("/plans")
				if _, shared := seen.LoadOrStore(a.header.Get("Set-Cookie"), true); shared || a.status != 200 {
					t.Errorf("%v %v", a, a.header)
				}
			})
		}
		all.Wait()
	})
}

// TestCompressed: an answer that is read here is not asked for in a form that must be
// undone; others are passed on in the form that the caller can read.
func TestCompressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEcho(t, "http://blueapi.example", nil)
		for path, want := range map[string]string{"/plans": "", "/docs": "br"} {
			e.caller.get(path, "Accept-Encoding", "br")
			if got := e.last().Header.Get("Accept-Encoding"); got != want {
				t.Errorf("%s: %q", path, got)
			}
		}
	})
}
