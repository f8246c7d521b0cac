package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// brokered is a gateway that has the server's events.
func brokered(w *world) {
	w.gateway.Broker = &blueapi.Broker{Address: "broker.sim:61613", Dial: w.DialBroker}
}

// told is what a session's caller was told.
type told struct {
	frames []string
	code   websocket.StatusCode // -1 if the connection was lost
	reason string
}

// finals are the frames that say that the task is complete.
func (t told) finals() []string {
	return slices.DeleteFunc(slices.Clone(t.frames), func(f string) bool { return !strings.Contains(f, `"task_complete":true`) })
}

// open opens a session. headers are names and values.
func (c *caller) open(headers ...string) (*websocket.Conn, *http.Response, error) {
	h := make(http.Header)
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	conn, resp, err := websocket.Dial(context.Background(), "ws://gateway.example/api/v2/run_plan", &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: h})
	if err == nil {
		conn.SetReadLimit(1 << 20)
	}
	return conn, resp, err
}

// say sends a frame.
func say(t *testing.T, conn *websocket.Conn, text string) {
	t.Helper()
	if err := conn.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// rest is what comes until the end.
func rest(conn *websocket.Conn) (out told) {
	for {
		_, b, err := conn.Read(context.Background())
		if err != nil {
			e, _ := errors.AsType[websocket.CloseError](err)
			out.code, out.reason = websocket.CloseStatus(err), e.Reason
			return out
		}
		out.frames = append(out.frames, string(b))
	}
}

// runPlan has a task run, by a session of its own.
func (c *caller) runPlan(task string, headers ...string) told {
	c.t.Helper()
	conn, _, err := c.open(headers...)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.CloseNow()
	say(c.t, conn, `{"kind":"submit","task":`+task+`}`)
	return rest(conn)
}

// line is one of a recording.
type line struct {
	Event, Dir, Frame string
	Headers           map[string]string
	Code              *websocket.StatusCode
	Reason            *string
	Note              string
}

// recording is a session with the real server.
func recording(t *testing.T, name string) (lines []line) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "ws", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for l := range bytes.Lines(b) {
		var next line
		if err := json.Unmarshal(l, &next); err != nil {
			t.Fatal(name, err)
		}
		lines = append(lines, next)
	}
	return lines
}

var (
	uuid       = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	ofDocument = regexp.MustCompile(`^\{"kind":"update","data":\{"(name|task_id)":`)
)

// plain are frames without ids; documents and progress are left out.
func plain(frames []string) (out []string) {
	for _, f := range frames {
		if !ofDocument.MatchString(f) {
			out = append(out, uuid.ReplaceAllLiteralString(f, "id"))
		}
	}
	return out
}

// TestRunPlanConformance: a session with the gateway is as one with the server, to the
// byte, with a broker and without; what is not said by anybody but the server, its
// documents, is compared in TestRunPlanEvents.
func TestRunPlanConformance(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join("testdata", "ws", "*.jsonl"))
	if len(files) < 18 {
		t.Fatalf("%d recordings", len(files))
	}
	for _, file := range files {
		for name, set := range map[string]func(*world){" with a broker": brokered, "": nil} {
			recorded := strings.TrimSuffix(filepath.Base(file), ".jsonl")
			t.Run(recorded+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { conform(newWorld(t, set), recorded, set != nil) })
			})
		}
	}
}

func conform(w *world, name string, events bool) {
	occupied := name == "busy" || name == "submit-while-paused"
	if occupied {
		w.caller.start(w.caller.submit(longNap))
		if name != "busy" {
			w.caller.state("PAUSED")
		}
	}
	conn, resp, err := w.caller.open()
	if err != nil {
		w.Fatal(err)
	}
	defer conn.CloseNow()
	var want told
	closes := false
	noted := make(chan struct{})
	for _, l := range recording(w.T, name) {
		switch {
		case l.Event == "open":
			for k, v := range l.Headers {
				if got := resp.Header.Get(k); got != v {
					w.Errorf("%s: %q, recorded %q", k, got, v)
				}
			}
		case l.Event == "closed":
			want.code, want.reason = *l.Code, *l.Reason
		case l.Event == "close sent":
			closes = true
		case l.Dir == "out":
			say(w.T, conn, l.Frame)
		case l.Dir == "in":
			want.frames = append(want.frames, l.Frame)
		case strings.HasPrefix(l.Note, "PUT /worker/state PAUSED"):
			go func() {
				defer close(noted)
				time.Sleep(500 * time.Millisecond)
				w.caller.state("PAUSED")
			}()
			defer func() { <-noted }()
		}
	}
	if closes { // before anything was asked
		if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil || len(w.Runs()) != 0 {
			w.Error(err, len(w.Runs()))
		}
		return
	}
	got := rest(conn)
	if !events { // the way to a pause is not seen by polling
		want.frames = slices.DeleteFunc(want.frames, func(f string) bool { return strings.Contains(f, `"PAUSING"`) })
	}
	if g, r := plain(got.frames), plain(want.frames); !slices.Equal(g, r) || got.code != want.code || got.reason != want.reason {
		w.Errorf("%d %q\n%s\nrecorded %d %q\n%s", got.code, got.reason, strings.Join(g, "\n"), want.code, want.reason, strings.Join(r, "\n"))
	}
	if a := w.caller.get("/tasks?task_status=PENDING"); a.body != `{"tasks":[]}` { // the server leaves one behind
		w.Errorf("left: %v", a)
	}
	if name == "paused-elsewhere" {
		if a := w.caller.get("/worker/state"); a.body != `"PAUSED"` {
			w.Error(a)
		}
		w.caller.state("ABORTING")
	}
}

// TestRunPlanEvents: every event of the task is passed on to the byte, in order.
func TestRunPlanEvents(t *testing.T) {
	for name, body := range map[string]string{
		"documents": task("many_events", `{"n":20,"delay":0.01}`),
		"progress":  task("moves", `{"x":0.1,"y":0.1}`),
		"failure":   task("fail", `{"message":"<boom> & \u2028 é"}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, brokered)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				listener := w.gateway.Broker.Listen(ctx)
				defer listener.Close()
				if err := listener.Subscribed(ctx); err != nil {
					t.Fatal(err)
				}
				got := w.caller.runPlan(body)
				for i, f := range got.frames {
					e, err := listener.Next(ctx)
					if want := `{"kind":"update","data":` + string(e.Raw) + `}`; err != nil || f != want {
						t.Fatalf("frame %d: %s\nwant %s (%v)", i, f, want, err)
					}
				}
				if len(got.frames) < 3 || len(got.finals()) != 1 || got.code != 1000 {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// TestRunPlanRefused: who may not read the server gets its own refusal, and no session.
func TestRunPlanRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.Token = "secret" })
		for _, headers := range [][]string{nil, {"Authorization", "Bearer other"}} {
			_, resp, err := w.caller.open(headers...)
			if err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("Www-Authenticate") != "Bearer" {
				t.Fatal(resp, err)
			}
			b := make([]byte, 100)
			n, _ := resp.Body.Read(b)
			if string(b[:n]) != `{"detail":"Not authenticated"}` {
				t.Errorf("%s", b[:n])
			}
		}
		for _, headers := range [][]string{{"Authorization", "Bearer secret"}, {"Cookie", `Authorization="Bearer secret"`}} {
			if got := w.caller.runPlan(nap, headers...); got.code != 1000 || len(got.finals()) != 1 {
				t.Errorf("%v: %+v", headers, got)
			}
		}
		if n := len(w.Runs()); n != 2 {
			t.Errorf("%d runs", n)
		}
	})
}

// TestRunPlanOrigin: a page in a browser may have a plan run if the server lets it read.
func TestRunPlanOrigin(t *testing.T) {
	for name, tc := range map[string]struct {
		origin, allowed string
		status          int
	}{
		"no browser":          {"", "", 101},
		"the gateway's own":   {"http://gateway.example", "", 101},
		"another":             {"http://evil.example", "", 403},
		"another of a list":   {"http://evil.example", "http://ui.example", 403},
		"on the list":         {"http://ui.example", "http://ui.example", 101},
		"all are":             {"http://ui.example", "*", 101},
		"of nothing":          {"null", "", 403},
		"another port's page": {"http://gateway.example:8080", "", 403},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.Inject(listed(tc.allowed))
				var headers []string
				if tc.origin != "" {
					headers = []string{"Origin", tc.origin}
				}
				conn, resp, err := w.caller.open(headers...)
				if resp == nil || resp.StatusCode != tc.status {
					t.Fatal(resp, err)
				}
				if err == nil {
					conn.CloseNow()
				}
			})
		})
	}
}

// listed is a server with a list of origins, as starlette tells of it.
func listed(origin string) sim.Fault {
	return func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		a := next()
		if asks := x.Header.Get("Origin"); asks != "" && a.Header != nil && (origin == asks || origin == "*") {
			a.Header.Set("Access-Control-Allow-Origin", origin)
		}
		return a
	}
}

// TestRunPlanLimits: sessions are counted, a request may not be too large, and none is
// let in or begun when the gateway is drained.
func TestRunPlanLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(w *world) { w.gateway.MaxWaiting, w.gateway.MaxBody = 2, 1000 })
		first, _, err := w.caller.open()
		if err != nil {
			t.Fatal(err)
		}
		defer first.CloseNow()
		second, _, err := w.caller.open()
		if err != nil {
			t.Fatal(err)
		}
		if s := w.gateway.Status(); s.Sessions != 2 || s.Callers != 0 {
			t.Errorf("%+v", s)
		}
		if _, resp, _ := w.caller.open(); resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Adamant-Verdict") != "not-sent" {
			t.Error(resp)
		}
		say(t, second, `{"task":`+task("nap", `{"seconds":`+strings.Repeat(" ", 1000)+`1}`)+`}`)
		if got := rest(second); got.code != websocket.StatusMessageTooBig {
			t.Errorf("%+v", got)
		}
		time.Sleep(time.Second)
		third, _, err := w.caller.open()
		if err != nil {
			t.Fatal(err)
		}
		defer third.CloseNow()
		say(t, first, `{"task":`+nap+`}`)
		time.Sleep(100 * time.Millisecond)
		w.gateway.Drain()
		if _, resp, _ := w.caller.open(); resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Adamant-Verdict") != "not-sent" {
			t.Error(resp)
		}
		if got := rest(first); got.code != 1000 || len(got.finals()) != 1 {
			t.Errorf("%+v", got)
		}
		if got := rest(third); got.code != websocket.StatusServiceRestart || got.reason == "" {
			t.Errorf("%+v", got)
		}
		if n := len(w.Runs()); n != 1 {
			t.Errorf("%d runs", n)
		}
	})
}

// TestRunPlanInvalid: what is not a text is no valid request, nor is what the server's
// parser would not take.
func TestRunPlanInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for _, text := range []string{
			``, `null`, `[]`, `{}`, `{"task":null}`, `{"task":[]}`, `{"kind":null,"task":` + nap + `}`, `{"kind":"submit","Task":` + nap + `}`,
			`{"task":{"name":1,"instrument_session":"x"}}`, `{"task":{"Name":"nap","instrument_session":"x"}}`,
			`{"task":{"name":"nap","instrument_session":"x","params":null}}`, `{"task":{"name":"nap","instrument_session":"x","more":1}}`,
			`{"task":{"name":"nap","instrument_session":null}}`, `{"task":` + nap + `} {}`, "{\"task\":\"\xff\"}",
		} {
			conn, _, err := w.caller.open()
			if err != nil {
				t.Fatal(err)
			}
			kind := websocket.MessageText
			if text == "{\"task\":\"\xff\"}" || text == "" {
				kind = websocket.MessageBinary
			}
			if err := conn.Write(t.Context(), kind, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if got := rest(conn); got.code != 1007 || got.reason != "Invalid Request" || got.frames != nil {
				t.Errorf("%s: %+v", text, got)
			}
		}
		if n := w.asked("POST", "/tasks"); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestRunPlanHeld: a session that comes while the environment is reloaded waits for it.
func TestRunPlanHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		if a := w.caller.ask(t.Context(), "DELETE", "/environment", ""); a.status != 200 {
			t.Fatal(a)
		}
		if got := w.caller.runPlan(nap); got.code != 1000 || len(got.finals()) != 1 {
			t.Errorf("%+v", got)
		}
		if a := w.caller.get("/environment"); !strings.Contains(a.body, `"initialized":true`) {
			t.Error(a)
		}
	})
}

// TestRunPlanSilentCaller: a caller who answers no ping is given up, and the plan is not.
func TestRunPlanSilentCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, brokered)
		conn := w.bare(`{"task":` + task("many_events", `{"n":600,"delay":0.1}`) + `}`)
		defer conn.Close()
		begun := time.Now()
		for len(w.did("GET", "/api/v2/run_plan")) == 0 {
			if time.Since(begun) > time.Minute {
				t.Fatal("it is not given up")
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(begun); d < 39*time.Second || d > 43*time.Second {
			t.Errorf("after %v", d)
		}
		w.goesOn("many_events")
	})
}

// bare opens a session by hand, sends one frame, and does nothing more.
func (w *world) bare(text string) net.Conn {
	w.Helper()
	conn, err := w.front.DialContext(w.Context(), "tcp", w.addr)
	if err != nil {
		w.Fatal(err)
	}
	if _, err := conn.Write([]byte("GET /api/v2/run_plan HTTP/1.1\r\nHost: gateway.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n")); err != nil {
		w.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		w.Fatal(resp, err)
	}
	head := []byte{0x81, 0xfe, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0} // text, masked by zeros
	if _, err := conn.Write(append(head, text...)); err != nil {
		w.Fatal(err)
	}
	return conn
}

// goesOn holds that the only plan that ran is running, and comes to its end.
func (w *world) goesOn(plan string) {
	w.Helper()
	runs := w.Runs()
	if len(runs) != 1 || runs[0].Plan != plan {
		w.Fatalf("%+v", runs)
	}
	if t := w.caller.await(runs[0].TaskID); t.Outcome == nil || t.Outcome.Kind != "success" {
		w.Errorf("%+v", t)
	}
}
