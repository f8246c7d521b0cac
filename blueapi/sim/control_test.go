package sim_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// order asks the control handler for something.
func (l *lab) order(method, path, body string) (int, string) {
	w := httptest.NewRecorder()
	l.ControlHandler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// done asks for something that has no answer.
func (l *lab) done(method, path, body string) {
	l.t.Helper()
	if status, b := l.order(method, path, body); status != http.StatusNoContent || b != "" {
		l.t.Errorf("%s %s: %d %s", method, path, status, b)
	}
}

func TestControlFaults(t *testing.T) {
	inLab(t, func(l *lab) {
		list := func(want string) {
			t.Helper()
			if status, b := l.order("GET", "/faults", ""); status != 200 || b != want+"\n" {
				t.Errorf("faults: %d %s", status, b)
			}
		}
		list(`[]`)
		l.done("POST", "/faults", `{"fault":"status=503  GET /plans nth=2"}`)
		l.Inject(sim.Delay(time.Second))
		list(`["status=503 GET /plans nth=2","?"]`)
		for _, want := range []int{200, 503, 200} {
			if status, _, err := l.ask(l.t.Context(), "GET", "/plans", ""); status != want {
				t.Errorf("%d, %v, expected %d", status, err, want)
			}
		}
		l.done("DELETE", "/faults", "")
		list(`[]`)
	})
}

func TestControlRefuses(t *testing.T) {
	tests := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/faults", `{"fault":"nonesuch"}`, 400, `there is no \"nonesuch\"`},
		{"POST", "/faults", ``, 400, "say what is to be done"},
		{"POST", "/faults", `{"fault":1}`, 400, "fault"},
		{"POST", "/faults", `{"words":"delay=1s"}`, 400, "words"},
		{"POST", "/restart", `{"after":"soon"}`, 400, "soon"},
		{"POST", "/terminate", `{"after":"soon"}`, 400, "soon"},
		{"POST", "/reload", `{"after":"1s"}`, 400, "after"},
		{"POST", "/break", `{"message":1}`, 400, "message"},
		{"GET", "/freeze", ``, 405, ""},
		{"GET", "/nonesuch", ``, 404, ""},
	}
	inLab(t, func(l *lab) {
		before := l.environment()
		for _, tt := range tests {
			if status, b := l.order(tt.method, tt.path, tt.body); status != tt.status || !strings.Contains(b, tt.want) {
				t.Errorf("%s %s %s: %d %s", tt.method, tt.path, tt.body, status, b)
			}
		}
		time.Sleep(time.Minute)
		if e := l.environment(); e.ID != before.ID || e.Initialized != before.Initialized {
			t.Errorf("environment %+v, before %+v", e, before)
		}
	})
}

func TestControlServer(t *testing.T) {
	inLab(t, func(l *lab) {
		before := l.environment()
		l.done("POST", "/freeze", "")
		if status, _, err := l.askFor(time.Second, "GET", "/healthz"); status != 0 {
			t.Errorf("frozen: %d, %v", status, err)
		}
		l.done("POST", "/unfreeze", "")
		l.get("/healthz")
		l.done("POST", "/reload", "")
		time.Sleep(7 * time.Second)
		reloaded := l.environment()
		if reloaded.ID == before.ID || !reloaded.Initialized {
			t.Errorf("after a reload: %+v", reloaded)
		}
		l.done("POST", "/restart", `{"after":"2s"}`)
		if _, _, err := l.askFor(time.Second, "GET", "/healthz"); err == nil {
			t.Error("it is not away")
		}
		time.Sleep(2*time.Second + time.Millisecond)
		if e := l.environment(); e.ID == reloaded.ID {
			t.Errorf("after a restart: %+v", e)
		}
		l.done("POST", "/kill-worker", "")
		if status, _, err := l.askFor(time.Second, "GET", "/plans"); status != 0 {
			t.Errorf("without a worker: %d, %v", status, err)
		}
		l.done("POST", "/break", `{"message":"ImportError: no"}`)
		l.done("POST", "/restart", "")
		time.Sleep(time.Millisecond)
		if e := l.environment(); e.Initialized || e.ErrorMessage == nil || *e.ErrorMessage != "ImportError: no" {
			t.Errorf("broken: %+v", e)
		}
	})
}

func TestControlLists(t *testing.T) {
	inLab(t, func(l *lab) {
		read := func(path string, v any) {
			t.Helper()
			status, b := l.order("GET", path, "")
			if err := json.Unmarshal([]byte(b), v); status != 200 || err != nil {
				t.Errorf("%s: %d %s", path, status, b)
			}
		}
		id := l.submit("nap", `{"seconds":1}`)
		l.done("POST", "/faults", `{"fault":"lose-answer PUT"}`)
		if _, err := l.put(id); err == nil {
			t.Error("the answer was not lost")
		}
		type run struct {
			TaskID string `json:"task_id"`
			Plan   string
			Params map[string]float64
			Began  time.Time
			Ended  *time.Time
			Killed bool
		}
		var runs []run
		read("/runs", &runs)
		if len(runs) != 1 || runs[0].TaskID != id || runs[0].Plan != "nap" || runs[0].Params["seconds"] != 1 || runs[0].Ended != nil {
			t.Errorf("while it runs: %+v", runs)
		}
		time.Sleep(2 * time.Second)
		read("/runs", &runs)
		if r := runs[0]; r.Ended == nil || r.Ended.Sub(r.Began).Round(100*time.Millisecond) != time.Second || r.Killed {
			t.Errorf("when it has ended: %+v", r)
		}
		l.get("/tasks?task_status=PENDING")
		var exchanges []struct {
			N, Status    int
			Time         time.Time
			Method, Path string
		}
		read("/exchanges", &exchanges)
		want := []struct {
			method, path string
			status       int
		}{{"POST", "/tasks", 201}, {"PUT", "/worker/task", 0}, {"GET", "/tasks?task_status=PENDING", 200}}
		if len(exchanges) != len(want) {
			t.Fatalf("%+v", exchanges)
		}
		for i, x := range exchanges {
			if x.N != i+1 || x.Method != want[i].method || x.Path != want[i].path || x.Status != want[i].status || x.Time.IsZero() {
				t.Errorf("%+v, expected %+v", x, want[i])
			}
		}
	})
}
