package blueapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/memnet"
)

// replayer is a server that replays a recording, as far as a run needs a server.
type replayer struct {
	t    *testing.T
	rec  *recording
	net  memnet.Network
	http http.Server

	// answer, if set, deals with the upgrade in the server's place.
	answer func(w http.ResponseWriter, r *http.Request) (done bool)

	// play, if set, is what happens after a request to run a plan, in place of the
	// recording.
	play func(*websocket.Conn)

	mu       sync.Mutex
	asked    []string // who asked for anything but an upgrade
	env      string
	tasks    []map[string]any
	last     string // the worker's last task, if it has none of tasks
	state    string
	upgrades []*http.Request
	submits  int
	over     chan struct{} // closed when the server has replayed all
}

const replayAddr = "replay.test:8000"

func newReplayer(t *testing.T, rec *recording) (*replayer, *blueapi.Client) {
	t.Helper()
	s := &replayer{t: t, rec: rec, env: "e1", tasks: []map[string]any{}, state: "IDLE", over: make(chan struct{})}
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
	s.asked = append(s.asked, r.RemoteAddr)
	switch id := strings.TrimPrefix(path, "/tasks/"); {
	case strings.HasSuffix(r.URL.Path, "/api/v2/run_plan"):
		s.asked = s.asked[:len(s.asked)-1]
		s.upgrades = append(s.upgrades, r)
		s.mu.Unlock()
		s.runPlan(w, r)
		s.mu.Lock()
	case !versioned:
		s.say(w, http.StatusNotFound, map[string]any{"detail": "Not Found"})
	case path == "/environment":
		s.say(w, http.StatusOK, map[string]any{"environment_id": s.env, "initialized": true, "error_message": nil})
	case path == "/tasks":
		s.say(w, http.StatusOK, map[string]any{"tasks": s.tasks})
	case path == "/worker/state":
		s.say(w, http.StatusOK, s.state)
	case path == "/worker/task" && s.last != "":
		s.say(w, http.StatusOK, map[string]any{"task_id": s.last})
	case path == "/worker/task":
		var last any
		for _, task := range s.tasks {
			if task["is_pending"] == false {
				last = task["task_id"]
			}
		}
		s.say(w, http.StatusOK, map[string]any{"task_id": last})
	case s.find(id) < 0:
		s.say(w, http.StatusNotFound, map[string]any{"detail": "Item not found"})
	case r.Method == http.MethodDelete:
		s.tasks = slices.Delete(s.tasks, s.find(id), s.find(id)+1)
		s.say(w, http.StatusOK, map[string]any{"task_id": id})
	default:
		s.say(w, http.StatusOK, s.tasks[s.find(id)])
	}
}

// find is the index of a task, or -1.
func (s *replayer) find(id string) int {
	return slices.IndexFunc(s.tasks, func(task map[string]any) bool { return task["task_id"] == id })
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
	defer close(s.over)
	if s.play != nil {
		s.play(conn)
		return
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
		s.tasks = append(s.tasks, taskOf("orphan", s.rec.request))
	case m.Data.Task != nil:
		id := m.Data.Task.ID
		if s.find(id) < 0 {
			s.tasks = append(s.tasks, taskOf(id, s.rec.request))
		}
		s.state = m.Data.State
		task := s.tasks[s.find(id)]
		task["is_pending"], task["is_complete"], task["outcome"] = false, m.Data.Task.Complete, m.Data.Task.Result
	}
}

// taskOf is the record of a task that has not begun.
func taskOf(id string, r blueapi.TaskRequest) map[string]any {
	return map[string]any{
		"task_id": id, "request_id": nil, "is_pending": true, "is_complete": false, "errors": []string{}, "outcome": nil,
		"task": map[string]any{
			"name": r.Name, "params": r.Params,
			"metadata": map[string]any{"user": nil, "instrument_session": r.InstrumentSession, "blueapi_task_id": id},
		},
	}
}

// restart is what becomes of a server that was killed.
func (s *replayer) restart() {
	s.net.SetAt(replayAddr, memnet.Kill)
	time.Sleep(10 * time.Second)
	s.mu.Lock()
	s.env, s.tasks, s.state = "e2", []map[string]any{}, "IDLE"
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
