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
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/memnet"
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

// replayer is a server that replays a recording, as far as a run needs a server.
type replayer struct {
	t    *testing.T
	rec  *recording
	net  memnet.Network
	http http.Server

	// answer, if set, deals with the upgrade in the server's place.
	answer func(w http.ResponseWriter, r *http.Request) (done bool)

	mu       sync.Mutex
	env      string
	task     map[string]any // the only one; nil if there is none
	state    string
	upgrades []*http.Request
	submits  int
	over     chan struct{} // closed when the server has replayed all
}

const replayAddr = "replay.test:8000"

func newReplayer(t *testing.T, rec *recording) (*replayer, *blueapi.Client) {
	t.Helper()
	s := &replayer{t: t, rec: rec, env: "e1", state: "IDLE", over: make(chan struct{})}
	l, err := s.net.Listen(replayAddr)
	if err != nil {
		t.Fatal(err)
	}
	s.http.Handler = s
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.http.Serve(l)
	}()
	c := &blueapi.Client{URL: "http://" + replayAddr, Transport: &http.Transport{DialContext: s.net.DialContext}}
	t.Cleanup(func() {
		c.Close()
		_ = s.http.Close()
		<-done
	})
	return s, c
}

func (s *replayer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Blueapi-Version", "1.21.1")
	path, versioned := strings.CutPrefix(r.URL.Path, "/api/v1")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch id := strings.TrimPrefix(path, "/tasks/"); {
	case strings.HasSuffix(r.URL.Path, "/api/v2/run_plan"):
		s.upgrades = append(s.upgrades, r)
		s.mu.Unlock()
		s.runPlan(w, r)
		s.mu.Lock()
	case !versioned:
		s.say(w, http.StatusNotFound, map[string]any{"detail": "Not Found"})
	case path == "/environment":
		s.say(w, http.StatusOK, map[string]any{"environment_id": s.env, "initialized": true, "error_message": nil})
	case path == "/tasks":
		tasks := []any{}
		if s.task != nil && (r.URL.RawQuery == "" || s.task["is_pending"] == true) {
			tasks = append(tasks, s.task)
		}
		s.say(w, http.StatusOK, map[string]any{"tasks": tasks})
	case path == "/worker/state":
		s.say(w, http.StatusOK, s.state)
	case s.task == nil && path == "/worker/task":
		s.say(w, http.StatusOK, map[string]any{"task_id": nil})
	case path == "/worker/task":
		s.say(w, http.StatusOK, map[string]any{"task_id": s.task["task_id"]})
	case s.task == nil || s.task["task_id"] != id:
		s.say(w, http.StatusNotFound, map[string]any{"detail": "Item not found"})
	case r.Method == http.MethodDelete:
		s.task = nil
		s.say(w, http.StatusOK, map[string]any{"task_id": id})
	default:
		s.say(w, http.StatusOK, s.task)
	}
}

func (s *replayer) say(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (s *replayer) runPlan(w http.ResponseWriter, r *http.Request) {
	if s.answer != nil && s.answer(w, r) {
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer conn.CloseNow()
	_, submitted, err := conn.Read(context.Background())
	if err != nil {
		return // the client has left
	}
	s.mu.Lock()
	s.submits++
	s.mu.Unlock()
	if s.rec.closed != websocket.StatusInvalidFramePayloadData && !sameJSON(submitted, s.rec.submitted) {
		s.t.Errorf("submitted %s, recorded is %s", submitted, s.rec.submitted)
	}
	var elapsed time.Duration
	for _, line := range s.rec.said {
		time.Sleep(max(0, line.at-elapsed))
		elapsed = max(line.at, elapsed)
		s.note(line.frame)
		if conn.Write(context.Background(), websocket.MessageText, []byte(line.frame)) != nil {
			return
		}
	}
	if s.rec.closed != 0 {
		_ = conn.Close(s.rec.closed, s.rec.reason)
	}
	close(s.over)
}

// note keeps the record that the server would.
func (s *replayer) note(frame string) {
	var m struct {
		Kind string
		Data struct {
			State  string
			TaskID string `json:"task_id"`
			Task   *struct {
				ID       string `json:"task_id"`
				Result   any
				Complete bool `json:"task_complete"`
			} `json:"task_status"`
		}
	}
	if err := json.Unmarshal([]byte(frame), &m); err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.Kind == "busy": // it leaves a task behind
		s.newTask("orphan")
	case m.Data.Task != nil:
		if s.task == nil {
			s.newTask(m.Data.Task.ID)
		}
		s.state = m.Data.State
		s.task["is_pending"], s.task["is_complete"], s.task["outcome"] = false, m.Data.Task.Complete, m.Data.Task.Result
	}
}

func (s *replayer) newTask(id string) {
	s.task = map[string]any{
		"task_id": id, "request_id": nil, "is_pending": true, "is_complete": false, "errors": []string{}, "outcome": nil,
		"task": map[string]any{
			"name": s.rec.request.Name, "params": s.rec.request.Params,
			"metadata": map[string]any{"user": nil, "instrument_session": s.rec.request.InstrumentSession, "blueapi_task_id": id},
		},
	}
}

// restart is what becomes of a server that was killed.
func (s *replayer) restart() {
	s.net.SetAt(replayAddr, memnet.Kill)
	time.Sleep(10 * time.Second)
	s.mu.Lock()
	s.env, s.task, s.state = "e2", nil, "IDLE"
	s.mu.Unlock()
	s.net.SetAt(replayAddr, memnet.Healthy)
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// socketNotes are what a run over a WebSocket tells.
type socketNotes struct {
	events []blueapi.Event
	notes  []string // of the trace and the journal
}

func (n *socketNotes) attach(c *blueapi.Client) {
	note := func(format string, a ...any) { n.notes = append(n.notes, strings.TrimSpace(fmt.Sprintf(format, a...))) }
	c.Journal = recorder(func(e blueapi.Entry) { note("%s %s", stepNames[e.Step], e.TaskID) })
	c.RunTrace = &blueapi.RunTrace{
		Event:       func(e blueapi.Event) { n.events = append(n.events, e) },
		Looking:     func(string, error) { note("looking") },
		Withdrawing: func(string, error) { note("withdrawing") },
		Paused:      func(string) { note("paused") },
		Resumed:     func(string) { note("resumed") },
	}
}

// raw are the events as they came; a gap is "gap".
func (n *socketNotes) raw() []string {
	var raw []string
	for _, e := range n.events {
		if e.Gap != nil {
			raw = append(raw, "gap")
			continue
		}
		raw = append(raw, string(e.Raw))
	}
	return raw
}

var stepNames = map[blueapi.Step]string{
	blueapi.StepIntent: "intent", blueapi.StepStarting: "starting", blueapi.StepNotSent: "not sent",
	blueapi.StepStarted: "started", blueapi.StepWithdrawn: "withdrawn", blueapi.StepEnded: "ended",
}

// recorder is a journal.
type recorder func(blueapi.Entry)

func (f recorder) Record(_ context.Context, e blueapi.Entry) error {
	f(e)
	return nil
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
				if left := s.task; want.reason == blueapi.Busy && left != nil {
					t.Errorf("left behind: %v", left)
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
				return &deafAfterUpgrade{Conn: conn, deaf: func() bool { n++; return n <= dead }}, nil
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

// deafAfterUpgrade is a connection on which nothing can be written after an upgrade.
type deafAfterUpgrade struct {
	net.Conn
	deaf     func() bool
	upgraded bool
	broken   bool
}

func (c *deafAfterUpgrade) Write(b []byte) (int, error) {
	switch {
	case c.upgraded && c.broken:
		return 0, errors.New("broken pipe")
	case bytes.Contains(b, []byte("/api/v2/run_plan")):
		c.upgraded, c.broken = true, c.deaf()
	}
	return c.Conn.Write(b)
}
