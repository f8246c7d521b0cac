package blueapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi"
)

// recording is a session of run_plan, recorded from a real server (1.21.1).
type recording struct {
	submitted json.RawMessage
	request   blueapi.TaskRequest
	said      []saidLine
	closed    websocket.StatusCode // 0 if the connection just ended
	reason    string
}

// saidLine is a frame that the server sent.
type saidLine struct {
	at    time.Duration
	frame string
}

func readRecording(t *testing.T, name string) *recording {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "ws", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	rec := new(recording)
	for text := range strings.Lines(string(raw)) {
		var line struct {
			T                         float64
			Dir, Frame, Event, Reason string
			Code                      websocket.StatusCode
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		switch {
		case line.Dir == "in":
			rec.said = append(rec.said, saidLine{time.Duration(line.T * float64(time.Second)), line.Frame})
		case line.Dir == "out":
			rec.submitted = json.RawMessage(line.Frame)
			var submit struct{ Task blueapi.TaskRequest }
			if err := json.Unmarshal(rec.submitted, &submit); err != nil {
				t.Fatal(err)
			}
			rec.request = submit.Task
		case line.Event == "closed":
			rec.closed, rec.reason = line.Code, line.Reason
		}
	}
	if rec.submitted == nil {
		t.Fatalf("%s: nothing was submitted", name)
	}
	return rec
}

// events are the updates of a recording, as an observer of the run sees them.
func (rec *recording) events(t *testing.T) []string {
	t.Helper()
	var raw []string
	for _, line := range rec.said {
		var m struct {
			Kind string
			Data json.RawMessage
		}
		if err := json.Unmarshal([]byte(line.frame), &m); err != nil {
			t.Fatal(err)
		}
		if m.Kind == "update" {
			raw = append(raw, string(m.Data))
		}
	}
	return raw
}

// TestWebSocketReplay has a real server's words for each way in which a session ends.
func TestWebSocketReplay(t *testing.T) {
	for name, want := range map[string]struct {
		word    blueapi.Word
		reason  blueapi.Reason
		outcome string // its type
		status  int    // of the refusal
		gap     bool
		notes   string // ID stands for the task's id
		then    func(*replayer)
	}{
		"success":        {word: blueapi.Done, reason: blueapi.Ended, outcome: "NoneType"},
		"result":         {word: blueapi.Done, reason: blueapi.Ended, outcome: "int"},
		"unserialisable": {word: blueapi.Done, reason: blueapi.Ended, outcome: "Opaque"},
		"failure":        {word: blueapi.Done, reason: blueapi.Ended, outcome: "ValueError"},
		"documents":      {word: blueapi.Done, reason: blueapi.Ended, outcome: "int"},
		"progress":       {word: blueapi.Done, reason: blueapi.Ended, outcome: "NoneType"},
		"paused-elsewhere": {
			word: blueapi.Done, reason: blueapi.NotRecorded, gap: true,
			notes: "intent, starting, started ID, paused, ended ID",
			then: func(s *replayer) {
				time.Sleep(time.Minute)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.state = "IDLE"
			},
		},
		"server-terminated": {
			word: blueapi.Unknown, reason: blueapi.EnvironmentChanged, gap: true,
			notes: "intent, starting, started ID, ended ID", then: (*replayer).restart,
		},
		"server-killed": {
			word: blueapi.Unknown, reason: blueapi.EnvironmentChanged, gap: true,
			notes: "intent, starting, started ID, ended ID", then: (*replayer).restart,
		},
		"busy": {
			word: blueapi.NotStarted, reason: blueapi.Busy, status: 409,
			notes: "intent, starting, withdrawn orphan, ended orphan",
		},
		"submit-while-paused": {
			word: blueapi.NotStarted, reason: blueapi.Busy, status: 409,
			notes: "intent, starting, withdrawn orphan, ended orphan",
		},
		"plan-not-found":       {word: blueapi.NotStarted, reason: blueapi.Refused, status: 404, notes: "intent, starting, ended"},
		"invalid-args":         {word: blueapi.NotStarted, reason: blueapi.Refused, status: 422, notes: "intent, starting, ended"},
		"invalid-request-kind": {word: blueapi.NotStarted, reason: blueapi.Refused, status: 422, notes: "intent, starting, ended"},
	} {
		t.Run(name, func(t *testing.T) {
			rec := readRecording(t, name)
			synctest.Test(t, func(t *testing.T) {
				s, c := newReplayer(t, rec)
				var told socketNotes
				told.attach(c)
				if want.then != nil {
					go func() {
						<-s.over
						want.then(s)
					}()
				}
				result, err := c.RunWebSocket(t.Context(), rec.request)
				if result.Word != want.word || result.Reason != want.reason || (err == nil) != (want.word == blueapi.Done) {
					t.Fatalf("%v for reason %d: %v", result.Word, result.Reason, err)
				}
				if want.outcome != "" && (result.Outcome == nil || result.Outcome.Type != want.outcome) {
					t.Errorf("outcome %+v", result.Outcome)
				}
				if refusal, _ := errors.AsType[*blueapi.Error](err); want.status != 0 && (refusal == nil || refusal.Status != want.status) {
					t.Errorf("%v, want status %d", err, want.status)
				}
				events := rec.events(t)
				if want.gap {
					events = append(events, "gap")
				}
				if got := told.raw(); !slices.Equal(got, events) {
					t.Errorf("events %q, recorded are %q", got, events)
				}
				notes := want.notes
				if notes == "" {
					notes = "intent, starting, started ID, ended ID"
				}
				if got := strings.Join(told.notes, ", "); got != strings.ReplaceAll(notes, "ID", result.TaskID) {
					t.Errorf("told %s", got)
				}
				if s.submits != 1 {
					t.Errorf("submitted %d times", s.submits)
				}
				if want.reason == blueapi.Busy && len(s.tasks) != 0 {
					t.Errorf("left behind: %v", s.tasks)
				}
			})
		})
	}
}

// TestWebSocketComplaints shows that a refusal says what is wrong.
func TestWebSocketComplaints(t *testing.T) {
	rec := readRecording(t, "invalid-args")
	synctest.Test(t, func(t *testing.T) {
		_, c := newReplayer(t, rec)
		_, err := c.RunWebSocket(t.Context(), rec.request)
		refusal, _ := errors.AsType[*blueapi.Error](err)
		if refusal == nil || len(refusal.Fields) != 2 || fmt.Sprint(refusal.Fields[1].Loc) != "[body params foo]" ||
			refusal.Fields[1].Type != "extra_forbidden" || string(refusal.Fields[0].Input) != `"long"` {
			t.Errorf("%+v", refusal)
		}
	})
}

// TestWebSocketCodes: what a connection means that is closed without a word, and after
// one.
func TestWebSocketCodes(t *testing.T) {
	rec := readRecording(t, "success")
	for code, status := range map[websocket.StatusCode]int{4001: 404, 4002: 422, 4003: 403, 1007: 422, 1009: 413} {
		synctest.Test(t, func(t *testing.T) {
			s, c := newReplayer(t, rec)
			s.play = func(c *websocket.Conn) { _ = c.Close(code, "") }
			result, err := c.RunWebSocket(t.Context(), rec.request)
			refusal, _ := errors.AsType[*blueapi.Error](err)
			if result.Word != blueapi.NotStarted || result.Reason != blueapi.Refused || refusal == nil || refusal.Status != status {
				t.Errorf("%d: %v", code, err)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			s, c := newReplayer(t, rec)
			s.play = func(c *websocket.Conn) {
				s.add("a", "ended")
				_ = c.Write(context.Background(), websocket.MessageText, []byte(`{"kind":"update","data":{"task_id":"a","name":"start","doc":{}}}`))
				_ = c.Close(code, "")
			}
			var told socketNotes
			told.attach(c)
			if result, err := c.RunWebSocket(t.Context(), rec.request); result.Word != blueapi.Done {
				t.Errorf("%d after the plan began: %v", code, err)
			}
			gap := told.events[len(told.events)-1].Gap
			if gap == nil || websocket.CloseStatus(gap.Err) != code {
				t.Errorf("%d after the plan began: gap %+v", code, gap)
			}
		})
	}
}

// TestWebSocketLarge: documents can be large.
func TestWebSocketLarge(t *testing.T) {
	rec := readRecording(t, "success")
	synctest.Test(t, func(t *testing.T) {
		s, c := newReplayer(t, rec)
		large := `{"task_id":"a","name":"event","doc":{"data":"` + strings.Repeat("x", 20<<20) + `"}}`
		s.play = func(c *websocket.Conn) {
			s.add("a", "ended")
			_ = c.Write(context.Background(), websocket.MessageText, []byte(`{"kind":"update","data":`+large+`}`))
			_ = c.Close(websocket.StatusNormalClosure, "")
		}
		var told socketNotes
		told.attach(c)
		if result, err := c.RunWebSocket(t.Context(), rec.request); result.Word != blueapi.Done || string(told.events[0].Raw) != large {
			t.Errorf("%v: %v; %d bytes", result.Word, err, len(told.events[0].Raw))
		}
	})
}

// TestWebSocketPrompt: a run ends with its plan, whatever becomes of the connection.
func TestWebSocketPrompt(t *testing.T) {
	rec := readRecording(t, "success")
	synctest.Test(t, func(t *testing.T) {
		s, c := newReplayer(t, rec)
		s.play = func(c *websocket.Conn) {
			for i, line := range rec.said {
				time.Sleep(time.Duration(i) * 1300 * time.Millisecond)
				s.note(line.frame)
				_ = c.Write(context.Background(), websocket.MessageText, []byte(line.frame))
			}
			hold(c)
		}
		begin := time.Now()
		result, err := c.RunWebSocket(t.Context(), rec.request)
		if took := time.Since(begin) - 3*1300*time.Millisecond; result.Reason != blueapi.Ended || took > 600*time.Millisecond {
			t.Errorf("%v for reason %d, %v after the plan: %v", result.Word, result.Reason, took, err)
		}
	})
}

// TestWebSocketReload: a reload by the same client waits for the answer to a request to
// run a plan, and then leaves the plan alone.
func TestWebSocketReload(t *testing.T) {
	rec := readRecording(t, "success")
	synctest.Test(t, func(t *testing.T) {
		s, c := newReplayer(t, rec)
		s.play = func(c *websocket.Conn) {
			time.Sleep(3 * time.Second) // until then nothing shows that a plan is to begin
			s.note(rec.said[0].frame)
			_ = c.Write(context.Background(), websocket.MessageText, []byte(rec.said[0].frame))
			time.Sleep(3 * time.Second)
			s.note(rec.said[2].frame)
		}
		reloaded := make(chan error)
		go func() {
			time.Sleep(time.Second)
			_, err := c.Reload(t.Context(), false)
			reloaded <- err
		}()
		if result, err := c.RunWebSocket(t.Context(), rec.request); result.Reason != blueapi.Ended {
			t.Errorf("%v for reason %d: %v", result.Word, result.Reason, err)
		}
		if e, _ := errors.AsType[*blueapi.ReloadError](<-reloaded); e == nil || e.Reason != blueapi.PlanActive {
			t.Errorf("reload: %v", e)
		}
	})
}

// upgradeAnswer answers in the server's place.
func upgradeAnswer(status int, header, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Del("X-Blueapi-Version")
		for line := range strings.Lines(header) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
		return true
	}
}

// TestWebSocketRefused: what servers and proxies say to an upgrade. Nothing was sent, so
// that nothing can have been started.
func TestWebSocketRefused(t *testing.T) {
	const json, html = "Content-Type: application/json", "Content-Type: text/html"
	for name, tt := range map[string]struct {
		answer   func(http.ResponseWriter, *http.Request) bool
		reason   blueapi.Reason
		status   int
		foreign  bool
		attempts int
	}{
		"no token":     {upgradeAnswer(401, json, `{"detail":"Not authenticated"}`), blueapi.Refused, 401, false, 1},
		"forbidden":    {upgradeAnswer(403, json, `{"detail":"Origin not on allow list"}`), blueapi.Refused, 403, false, 1},
		"old server":   {upgradeAnswer(404, json, `{"detail":"Not Found"}`), blueapi.Refused, 404, false, 1},
		"proxy's 403":  {upgradeAnswer(403, html, "<html>no</html>"), blueapi.Refused, 403, true, 1},
		"proxy's 404":  {upgradeAnswer(404, html, "<html>no</html>"), blueapi.Refused, 404, true, 1},
		"login page":   {upgradeAnswer(302, "Location: https://login.example/?secret=1", ""), blueapi.Refused, 302, true, 1},
		"page":         {upgradeAnswer(200, html, "<html>hello</html>"), blueapi.Refused, 200, true, 1},
		"no WebSocket": {upgradeAnswer(200, json+"\nX-Blueapi-Version: 1.21.1", `{}`), blueapi.Refused, 200, true, 1},
		"wrong key": {
			upgradeAnswer(101, "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Accept: bm90IHRoZSByaWdodCBvbmU=", ""),
			blueapi.Refused, 101, true, 1,
		},
		"no server behind the proxy": {upgradeAnswer(503, html, "<html>503</html>"), blueapi.Unreachable, 0, false, 5},
	} {
		t.Run(name, func(t *testing.T) {
			rec := readRecording(t, "success")
			synctest.Test(t, func(t *testing.T) {
				s, c := newReplayer(t, rec)
				s.answer = tt.answer
				result, err := c.RunWebSocket(t.Context(), rec.request)
				if result.Word != blueapi.NotStarted || result.Reason != tt.reason || blueapi.WordOf(err) != blueapi.NotStarted {
					t.Errorf("%v for reason %d: %v", result.Word, result.Reason, err)
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("a secret is told: %v", err)
				}
				if n := len(s.upgrades); n != tt.attempts {
					t.Errorf("%d attempts", n)
				}
				refusal, _ := errors.AsType[*blueapi.Error](err)
				if tt.status != 0 && (refusal == nil || refusal.Status != tt.status || refusal.Foreign != tt.foreign) {
					t.Errorf("refusal %+v", refusal)
				}
			})
		})
	}
}

// TestWebSocketUpgrade: the upgrade is a request like others, with the client's headers,
// token and path.
func TestWebSocketUpgrade(t *testing.T) {
	rec := readRecording(t, "success")
	synctest.Test(t, func(t *testing.T) {
		s, c := newReplayer(t, rec)
		c.Token = func(context.Context) (string, error) { return "token", nil }
		c.Header = func(_ context.Context, h http.Header) { h.Set("X-Mine", "yes") }
		failed := 0
		s.answer = func(w http.ResponseWriter, r *http.Request) bool {
			failed++
			return failed <= 3 && upgradeAnswer(502, "Content-Type: text/html", "bad gateway")(w, r)
		}
		result, err := c.RunWebSocket(t.Context(), rec.request)
		if err != nil || result.Word != blueapi.Done || s.submits != 1 {
			t.Fatalf("%v, %v, submitted %d times", result.Word, err, s.submits)
		}
		last := s.upgrades[len(s.upgrades)-1]
		h := last.Header
		if last.Proto != "HTTP/1.1" || h.Get("Authorization") != "Bearer token" || h.Get("X-Mine") != "yes" ||
			h.Get("User-Agent") != "adamant" || h.Get("Retry-Attempt") != "4" || len(h.Get("Traceparent")) != 55 {
			t.Errorf("%s with %v", last.Proto, h)
		}
		for _, r := range s.upgrades {
			if slices.Contains(s.asked, r.RemoteAddr) { // which may be dead without a sign
				t.Error("the connection is not a fresh one")
			}
		}
	})
	synctest.Test(t, func(t *testing.T) { // in a path
		s, c := newReplayer(t, rec)
		s.http.Handler = http.StripPrefix("/i22", s)
		c.URL = "http://user:pass@" + replayAddr + "/i22/"
		result, err := c.RunWebSocket(t.Context(), rec.request)
		if err != nil || result.Word != blueapi.Done {
			t.Fatalf("%v, %v", result.Word, err)
		}
		if r := s.upgrades[0]; r.RequestURI != "/i22/api/v2/run_plan" || r.Header.Get("Authorization") != "Basic dXNlcjpwYXNz" {
			t.Errorf("%s with %v", r.RequestURI, r.Header)
		}
	})
}

// TestWebSocketNotWritten: a connection that dies before anything was written on it is
// made again; then the server was not asked for anything.
func TestWebSocketNotWritten(t *testing.T) {
	rec := readRecording(t, "success")
	for _, dead := range []int{1, 4, 5} {
		synctest.Test(t, func(t *testing.T) {
			s, c := newReplayer(t, rec)
			var told socketNotes
			told.attach(c)
			n := 0
			c.Transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := s.net.DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &brokenAfterUpgrade{Conn: conn, breaks: func() bool { n++; return n <= dead }}, nil
			}
			result, err := c.RunWebSocket(t.Context(), rec.request)
			notes := strings.Join(told.notes, ", ")
			wanted := "intent, " + strings.Repeat("starting, not sent, ", dead)
			if dead == 5 {
				if result.Word != blueapi.NotStarted || result.Reason != blueapi.Unreachable || s.submits != 0 || notes != wanted+"ended" {
					t.Errorf("%v for reason %d: %v; submitted %d times; told %s", result.Word, result.Reason, err, s.submits, notes)
				}
				return
			}
			wanted += "starting, started ID, ended ID"
			if err != nil || s.submits != 1 || notes != strings.ReplaceAll(wanted, "ID", result.TaskID) {
				t.Errorf("dead %d times: %v, %v; submitted %d times; told %s", dead, result.Word, err, s.submits, notes)
			}
		})
	}
}

// TestWebSocketPartlyWritten: a request of which anything was written is not sent again,
// although it cannot have been understood.
func TestWebSocketPartlyWritten(t *testing.T) {
	rec := readRecording(t, "success")
	for _, n := range []int{1, 5, 50, 99} {
		synctest.Test(t, func(t *testing.T) {
			s, c := newReplayer(t, rec)
			c.Transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := s.net.DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &brokenAfterUpgrade{Conn: conn, breaks: func() bool { return true }, passes: n}, nil
			}
			result, err := c.RunWebSocket(t.Context(), rec.request)
			if result.Word != blueapi.Unknown || len(s.upgrades) != 1 {
				t.Errorf("%d bytes: %v: %v; %d connections", n, result.Word, err, len(s.upgrades))
			}
		})
	}
}

// brokenAfterUpgrade is a connection on which, after an upgrade, nothing but a few bytes
// can be written.
type brokenAfterUpgrade struct {
	net.Conn
	breaks func() bool
	passes int
	broken bool
}

func (c *brokenAfterUpgrade) Write(b []byte) (int, error) {
	switch {
	case c.broken:
		n, _ := c.Conn.Write(b[:min(c.passes, len(b))])
		c.passes -= n
		return n, errors.New("broken pipe")
	case bytes.Contains(b, []byte("/api/v2/run_plan")):
		c.broken = c.breaks()
	}
	return c.Conn.Write(b)
}
