package sim_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

// A lab is a server and a client that does nothing but send requests.
type lab struct {
	*sim.Server
	t      *testing.T
	client *http.Client
}

// inLab runs a test in virtual time.
func inLab(t *testing.T, test func(*lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &sim.Server{})
		test(l)
	})
}

func newLab(t *testing.T, s *sim.Server) *lab {
	tr := &http.Transport{DialContext: s.DialContext, DisableKeepAlives: true}
	t.Cleanup(s.Close)
	return &lab{Server: s, t: t, client: &http.Client{Transport: tr}}
}

// ask sends a request and returns the status and body of its answer.
func (l *lab) ask(ctx context.Context, method, path, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://blueapi"+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// askFor asks for at most d.
func (l *lab) askFor(d time.Duration, method, path string) (int, string, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), d)
	defer cancel()
	return l.ask(ctx, method, path, "")
}

// get asks with nothing in the way and gives the test up if there is no answer.
func (l *lab) get(path string) string {
	l.t.Helper()
	_, body, err := l.ask(l.t.Context(), "GET", path, "")
	if err != nil {
		l.t.Fatal(err)
	}
	return body
}

func (l *lab) submit(plan, params string) (id string) {
	l.t.Helper()
	status, body, err := l.ask(l.t.Context(), "POST", "/tasks", request(plan, params))
	var v struct {
		ID string `json:"task_id"`
	}
	if json.Unmarshal([]byte(body), &v); status != 201 {
		l.t.Fatal(status, body, err)
	}
	return v.ID
}

func (l *lab) put(id string) (int, error) {
	status, _, err := l.ask(l.t.Context(), "PUT", "/worker/task", `{"task_id":"`+id+`"}`)
	return status, err
}

// puts sends a PUT for each task, gap apart, and returns the statuses in the
// order of the tasks.
func (l *lab) puts(gap time.Duration, ids ...string) []int {
	statuses := make([]int, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * gap)
			statuses[i], _ = l.put(id)
		})
	}
	wg.Wait()
	return statuses
}

func (l *lab) task(id string) (t blueapi.Task) {
	l.t.Helper()
	if err := json.Unmarshal([]byte(l.get("/tasks/"+id)), &t); err != nil {
		l.t.Fatal(err)
	}
	return t
}

func (l *lab) environment() (e blueapi.Environment) {
	l.t.Helper()
	if err := json.Unmarshal([]byte(l.get("/environment")), &e); err != nil {
		l.t.Fatal(err)
	}
	return e
}

// ran returns how many runs of a task began.
func (l *lab) ran(id string) (n int) {
	for _, r := range l.Runs() {
		if r.TaskID == id {
			n++
		}
	}
	return n
}

func TestRestart(t *testing.T) {
	inLab(t, func(l *lab) {
		before := l.environment()
		id := l.submit("nap", `{"seconds":60}`)
		if status, err := l.put(id); status != 200 {
			t.Fatal(status, err)
		}
		asked := make(chan error)
		l.Inject(sim.When(sim.Request("GET", "/plans"), sim.Delay(time.Minute)))
		go func() {
			_, _, err := l.ask(l.t.Context(), "GET", "/plans", "")
			asked <- err
		}()
		time.Sleep(time.Second)
		l.Restart(2 * time.Second)
		if err := <-asked; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a request under way: %v", err)
		}
		if _, _, err := l.ask(l.t.Context(), "GET", "/healthz", ""); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("while it is down: %v", err)
		}
		time.Sleep(2*time.Second + time.Millisecond)
		if e := l.environment(); e.ID == before.ID || !e.Initialized {
			t.Errorf("environment %+v, before %+v", e, before)
		}
		if s := l.get("/tasks/" + id); s != `{"detail":"Item not found"}` {
			t.Errorf("the task: %s", s)
		}
		if r := l.Runs(); len(r) != 1 || !r[0].Killed || r[0].Ended.Sub(r[0].Began).Round(time.Second) != time.Second {
			t.Errorf("runs %+v", r)
		}
		for _, d := range l.Network().Dials() {
			if d.Err != nil && !errors.Is(d.Err, syscall.ECONNREFUSED) {
				t.Error(d)
			}
		}
	})
}

func TestReload(t *testing.T) {
	inLab(t, func(l *lab) {
		before := l.environment()
		id := l.submit("nap", `{"seconds":1}`)
		l.Reload()
		time.Sleep(time.Second)
		// The old worker is stopping, and nothing shows.
		if e := l.environment(); e.ID != before.ID || e.Initialized != before.Initialized {
			t.Errorf("at 1 s: %+v", e)
		}
		time.Sleep(2 * time.Second)
		if e := l.environment(); e.ID != before.ID || e.Initialized {
			t.Errorf("at 3 s: %+v", e)
		}
		start := time.Now()
		if s := l.get("/worker/state"); s != `"IDLE"` || time.Since(start).Round(time.Second) != 3*time.Second {
			t.Errorf("worker/state: %s after %v", s, time.Since(start))
		}
		if e := l.environment(); e.ID == before.ID || !e.Initialized {
			t.Errorf("at 6 s: %+v", e)
		}
		if s := l.get("/tasks/" + id); s != `{"detail":"Item not found"}` {
			t.Errorf("the task: %s", s)
		}
	})
}

// TestReloadWedged: a request while the old worker is stopping makes a new one in
// the process that should end, and the reload never does.
func TestReloadWedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &sim.Server{TeardownTime: 2 * time.Second}) // a busy machine
		before := l.environment()
		l.Reload()
		time.Sleep(time.Second)
		if s := l.get("/worker/state"); s != `"IDLE"` {
			t.Errorf("the request that does the harm: %s", s)
		}
		time.Sleep(time.Hour)
		if e := l.environment(); e.ID != before.ID || e.Initialized != before.Initialized {
			t.Errorf("environment %+v, before %+v", e, before)
		}
		for _, path := range []string{"/worker/state", "/plans", "/tasks"} {
			if s := l.get(path); s != "Internal Server Error" {
				t.Errorf("%s: %s", path, s)
			}
		}
		l.get("/healthz")
		if status, body, err := l.ask(l.t.Context(), "DELETE", "/environment", ""); status != 200 {
			t.Error(status, body, err)
		}
		time.Sleep(6 * time.Second)
		if e := l.environment(); e.ID == before.ID || !e.Initialized {
			t.Errorf("after the second reload: %+v", e)
		}
	})
}

// TestReloadWhileRunning: the plan goes on in the old process beside a new
// environment that is idle.
func TestReloadWhileRunning(t *testing.T) {
	inLab(t, func(l *lab) {
		before := l.environment()
		if status, err := l.put(l.submit("append_line", `{"path":"f","line":"begin","seconds":60,"last":"end"}`)); status != 200 {
			t.Fatal(status, err)
		}
		l.Reload()
		time.Sleep(33 * time.Second)
		e := l.environment()
		if e.ID != before.ID || e.Initialized || e.ErrorMessage == nil || *e.ErrorMessage != "TimeoutError: Worker did not stop within 30.0 seconds" {
			t.Errorf("at 33 s: %+v", e)
		}
		time.Sleep(4 * time.Second)
		if s := l.get("/worker/state"); s != `"IDLE"` || l.environment().ID == before.ID {
			t.Errorf("at 37 s: %s, %+v", s, l.environment())
		}
		time.Sleep(30 * time.Second)
		if got := l.Lines("f"); !slices.Equal(got, []string{"begin", "end"}) {
			t.Errorf("lines %q", got)
		}
	})
}

func TestFreeze(t *testing.T) {
	inLab(t, func(l *lab) {
		id := l.submit("nap", `{"seconds":1}`)
		l.Freeze()
		ctx, cancel := context.WithTimeout(l.t.Context(), time.Second)
		defer cancel()
		if _, _, err := l.ask(ctx, "PUT", "/worker/task", `{"task_id":"`+id+`"}`); !errors.Is(err, errTimeout) {
			t.Errorf("frozen: %v", err)
		}
		time.AfterFunc(time.Minute, l.Unfreeze)
		start := time.Now()
		l.get("/healthz")
		if d := time.Since(start); d < time.Minute || d > time.Minute+time.Second {
			t.Errorf("answered after %v", d)
		}
		time.Sleep(2 * time.Second)
		if l.ran(id) != 1 {
			t.Error("the request whose client has gone was not dealt with")
		}
	})
}

func TestNetworkFaults(t *testing.T) {
	inLab(t, func(l *lab) {
		l.Network().Set(memnet.Refuse)
		if _, _, err := l.ask(l.t.Context(), "GET", "/healthz", ""); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refused: %v", err)
		}
		l.Network().Set(memnet.BlackHole)
		time.AfterFunc(2*time.Second, func() { l.Network().Set(memnet.Healthy) })
		start := time.Now()
		l.get("/healthz")
		if d := time.Since(start).Round(time.Second); d != 3*time.Second {
			t.Errorf("answered after %v", d)
		}
	})
}

func TestPlansOfTheUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &sim.Server{Plans: []sim.Plan{
			{Name: "nap", Description: "Ours."},
			{
				Name: "double",
				Params: []sim.Param{
					{Name: "number", Type: sim.Integer},
					{Name: "by_far", Type: sim.Bool, Default: false},
					{Name: "anything", Nullable: true},
				},
				Run: func(_ context.Context, a sim.Args) (any, error) {
					if a["by_far"].(bool) {
						return nil, errors.New("too far")
					}
					return 2 * a["number"].(int), nil
				},
			},
		}})
		want := `{"name":"double","description":null,"schema":{"additionalProperties":false,"properties":{` +
			`"number":{"title":"Number","type":"integer"},"by_far":{"default":false,"title":"By Far","type":"boolean"},` +
			`"anything":{"title":"Anything"}},"required":["number"],"title":"double","type":"object"}}`
		if got := l.get("/plans/double"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got := l.get("/plans/nap"); !strings.Contains(got, "Ours.") {
			t.Error(got)
		}
		tests := []struct{ params, kind, result string }{
			{`{"number":"21","by_far":"off"}`, "int", "42"},
			{`{"number":1,"by_far":"yes"}`, "RuntimeError", ""},
		}
		for _, tt := range tests {
			id := l.submit("double", tt.params)
			if status, err := l.put(id); status != 200 {
				t.Fatal(status, err)
			}
			time.Sleep(time.Second)
			if o := l.task(id).Outcome; o.Type != tt.kind || string(o.Result) != tt.result {
				t.Errorf("%s: %+v", tt.params, o)
			}
		}
	})
}

// TestListen is not in virtual time: it has a real port.
func TestListen(t *testing.T) {
	var s sim.Server
	defer s.Close()
	addr, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	hc := &http.Client{Transport: tr}
	get := func() error {
		resp, err := hc.Get("http://" + addr + "/worker/state")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); string(b) != `"IDLE"` {
			return fmt.Errorf("body %q, %w", b, err)
		}
		return nil
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	s.Inject(sim.Nth(1, sim.LoseAnswer(sim.Reset)))
	if err := get(); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		// Go resends a GET on a connection that was used before.
		if err != nil {
			t.Error(err)
		}
	}
	s.Restart(time.Hour)
	if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while it is down: %v, %v", c, err)
	}
}
