package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// replay is a server that answers with what a real blueapi was recorded to
// answer. It runs every plan to the end that was recorded for its kind.
type replay struct {
	*httptest.Server
	recorded []exchange
	started  chan struct{}     // closed at the first look at a task that runs
	publish  func(task string) // nil, or what publishes the events of a task that is started

	mu      sync.Mutex
	scene   scene
	tasks   map[string]blueapiTask
	task    string // that the worker has
	reloads int
	looks   int // at the environment since the latest reload
	once    sync.Once
}

// scene is what the server is like.
type scene struct {
	state string // the recording of GET /worker/state
	start string // the recording of PUT /worker/task
	end   string // the recording of a task that has ended; by default by plan
	deny  bool   // no request is allowed
	// broken is set if the environment is: its text 500 answers all that needs it.
	broken bool
}

// current is the task that the worker has in a scene in which it runs or is paused.
const current = "00000000-0000-4000-8000-00000000c0de"

type blueapiTask struct{ Name, Params string }

type exchange struct {
	name    string
	Request struct {
		Method, Path string
		Body         *string
	}
	Response struct {
		Status  int
		Headers map[string]string
		Body    string
	}
}

func newReplay(t testing.TB, s scene) *replay {
	t.Helper()
	files, err := filepath.Glob("testdata/http/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("recordings: %d, %v", len(files), err)
	}
	r := &replay{tasks: map[string]blueapiTask{}, started: make(chan struct{})}
	r.enter(s)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var e exchange
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		e.name = strings.TrimLeft(strings.TrimSuffix(filepath.Base(file), ".json"), "0123456789-")
		r.recorded = append(r.recorded, e)
	}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *replay) enter(s scene) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scene = s
	if s.state != "" && s.end == "" {
		r.task = current
		r.tasks[current] = blueapiTask{"nap", `{"seconds": 60}`}
	}
}

func (r *replay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	path := strings.TrimPrefix(req.URL.Path, "/api/v1")
	switch what := req.Method + " " + path; {
	case r.scene.deny:
		r.answer(w, "no-token", nil)
	case r.scene.broken && what == "GET /environment":
		r.answer(w, "broken-environment", nil)
	case r.scene.broken && what != "DELETE /environment":
		r.answer(w, "broken-worker-state", nil)
	case what == "POST /tasks":
		r.submit(w, body)
	case what == "PUT /worker/task":
		r.start(w, body)
	case what == "GET /worker/task":
		r.answer(w, "worker-task-none", func(s string) string {
			return strings.Replace(s, "null", jsonOf(r.task, r.task == ""), 1)
		})
	case what == "GET /worker/state":
		r.answer(w, or(r.scene.state, "worker-state-idle"), nil)
	case what == "PUT /worker/state":
		r.change(w, body)
	case what == "DELETE /environment":
		r.reloads, r.looks = r.reloads+1, 0
		if r.scene.broken {
			r.scene.broken, r.looks = false, 1 // there is no worker to be stopped
		}
		r.answer(w, "environment-delete", r.environmentID)
	case what == "GET /environment" && r.reloads > 0:
		r.looks++
		name := "environment-delete" // as it says while it is being stopped
		if r.looks > 1 {
			name = "environment-reloaded"
		}
		r.answer(w, name, r.environmentID)
	case strings.HasPrefix(path, "/plans/"):
		r.showPlan(w, strings.TrimPrefix(path, "/plans/"))
	case strings.HasPrefix(path, "/tasks/"):
		r.showTask(w, req.Method, strings.TrimPrefix(path, "/tasks/"))
	default:
		if req.URL.RawQuery != "" {
			path += "?" + strings.TrimSuffix(req.URL.RawQuery, "&source=pypi") // where all that is named came from
		}
		for _, e := range r.recorded {
			if e.Request.Method == req.Method && e.Request.Path == path {
				r.answer(w, e.name, nil)
				return
			}
		}
		r.answer(w, "task-unknown", nil)
	}
}

// showPlan shows a plan as it is in the recorded list of all.
func (r *replay) showPlan(w http.ResponseWriter, name string) {
	shown := "plan-unknown"
	var text string
	for _, e := range r.recorded {
		var answer struct{ Plans []json.RawMessage }
		if e.name != "plans" || json.Unmarshal([]byte(e.Response.Body), &answer) != nil {
			continue
		}
		for _, plan := range answer.Plans {
			if strings.HasPrefix(string(plan), `{"name":`+jsonOf(name, false)+`,`) {
				shown, text = e.name, string(plan)
			}
		}
	}
	r.answer(w, shown, func(s string) string { return or(text, s) })
}

func (r *replay) submit(w http.ResponseWriter, body []byte) {
	for _, e := range r.recorded {
		if e.Request.Method == http.MethodPost && e.Request.Body != nil && sameJSON([]byte(*e.Request.Body), body) {
			r.answer(w, e.name, r.newTask(body))
			return
		}
	}
	r.answer(w, "submit", r.newTask(body))
}

// newTask puts a new task's id into the answer that has one.
func (r *replay) newTask(body []byte) func(string) string {
	return func(s string) string {
		var answer struct {
			ID string `json:"task_id"`
		}
		var request struct {
			Name   string
			Params json.RawMessage
		}
		if json.Unmarshal([]byte(s), &answer) != nil || answer.ID == "" || json.Unmarshal(body, &request) != nil {
			return s
		}
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", len(r.tasks)+1)
		r.tasks[id] = blueapiTask{request.Name, string(request.Params)}
		return strings.ReplaceAll(s, answer.ID, id)
	}
}

func (r *replay) start(w http.ResponseWriter, body []byte) {
	var request struct {
		ID string `json:"task_id"`
	}
	_ = json.Unmarshal(body, &request)
	if name := or(r.scene.start, "start"); name == "start" || name == "start-slow" {
		r.task = request.ID
		if r.publish != nil {
			r.publish(request.ID)
		}
	}
	r.answer(w, or(r.scene.start, "start"), func(s string) string {
		if strings.HasPrefix(s, `{"task_id"`) {
			return string(body)
		}
		return s
	})
}

// environmentID makes every other reload go back to the environment that was first.
func (r *replay) environmentID(s string) string {
	const first, second = "d8e09e84-99a3-4ca8-9f15-feca9c6ca28d", "7333f668-2972-4e74-9f18-5333ac3eb345"
	if r.reloads%2 == 0 {
		return strings.NewReplacer(first, second, second, first).Replace(s)
	}
	return s
}

// change answers a control command as the worker did in the state it is in, and puts
// it into the state that was recorded.
func (r *replay) change(w http.ResponseWriter, body []byte) {
	var request struct {
		State string `json:"new_state"`
		Defer bool
	}
	_ = json.Unmarshal(body, &request)
	name := map[string]string{"PAUSED": "pause", "RUNNING": "resume", "ABORTING": "abort", "STOPPING": "stop"}[request.State]
	switch {
	case request.Defer:
		name += "-deferred"
	case r.scene.state == "worker-state-paused" && name != "resume":
		name += "-while-paused"
	case name == "pause":
		r.scene.state = "worker-state-paused"
	default:
		r.scene.state = ""
	}
	r.answer(w, name, nil)
}

func (r *replay) showTask(w http.ResponseWriter, method, id string) {
	task, ok := r.tasks[id]
	if !ok {
		r.answer(w, "task-unknown", nil)
		return
	}
	if method == http.MethodDelete {
		delete(r.tasks, id)
		w.Header().Set("X-Blueapi-Version", "1.21.1")
		fmt.Fprintf(w, `{"task_id":"%s"}`, id)
		return
	}
	name := "task-pending"
	if id == r.task {
		name = or(r.scene.end, r.endOf(task))
		r.once.Do(func() { close(r.started) })
	}
	r.answer(w, name, func(s string) string {
		var recorded struct {
			ID   string `json:"task_id"`
			Task struct {
				Name   string
				Params json.RawMessage
			}
		}
		_ = json.Unmarshal([]byte(s), &recorded)
		s = strings.ReplaceAll(s, recorded.ID, id)
		return strings.Replace(s, fmt.Sprintf(`"name":"%s","params":%s`, recorded.Task.Name, recorded.Task.Params),
			fmt.Sprintf(`"name":"%s","params":%s`, task.Name, task.Params), 1)
	})
}

// endOf names the recording of how such a task ended.
func (r *replay) endOf(task blueapiTask) string {
	for _, e := range r.recorded {
		var t struct {
			Task struct {
				Name   string
				Params json.RawMessage
			}
			Outcome json.RawMessage
		}
		if strings.HasPrefix(e.name, "task-result-") && json.Unmarshal([]byte(e.Response.Body), &t) == nil &&
			t.Task.Name == task.Name && sameJSON(t.Task.Params, []byte(task.Params)) {
			return e.name
		}
	}
	if task.Name == "fail" {
		return "task-failed"
	}
	return "task-complete"
}

// answer sends a recorded answer, with a change made to its body.
func (r *replay) answer(w http.ResponseWriter, name string, change func(string) string) {
	for _, e := range r.recorded {
		if e.name != name {
			continue
		}
		body := e.Response.Body
		if change != nil {
			body = change(body)
		}
		for k, v := range e.Response.Headers {
			if k != "content-length" {
				w.Header().Set(k, v)
			}
		}
		w.WriteHeader(e.Response.Status)
		_, _ = io.WriteString(w, body)
		return
	}
	http.Error(w, "no recording "+name, http.StatusNotImplemented)
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func jsonOf(s string, null bool) string {
	if null {
		return "null"
	}
	return `"` + s + `"`
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
