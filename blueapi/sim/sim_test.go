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

// TestDoubleRun is what was seen of the real server: two PUTs of one task that
// meet in a stall of 2.5 s, and a plan that takes 6 s to start.
func TestDoubleRun(t *testing.T) {
	inLab(t, func(l *lab) {
		id := l.submit("slow_start", `{"seconds":6,"path":"double"}`)
		l.Freeze()
		time.AfterFunc(2500*time.Millisecond, l.Unfreeze)
		start := time.Now()
		if got := l.puts(time.Second, id, id); !slices.Equal(got, []int{500, 200}) {
			t.Errorf("answers %v", got)
		}
		if d := time.Since(start); d < 8500*time.Millisecond || d > 8600*time.Millisecond {
			t.Errorf("answered after %v", d) // the real one: 8.52 s
		}
		if task := l.task(id); !task.IsComplete || len(task.Errors) != 0 {
			t.Errorf("after the first run: %+v", task)
		}
		time.Sleep(10 * time.Second)
		if n := l.ran(id); n != 2 || len(l.Lines("double")) != 2 {
			t.Errorf("ran %d times, wrote %q", n, l.Lines("double"))
		}
		// The second run leaves its mark, here as there.
		if task := l.task(id); !slices.Equal(task.Errors, []string{"'" + id + "'"}) || task.Outcome.Kind != "success" {
			t.Errorf("after the second run: %+v", task)
		}
	})
}

// TestPUTsTogether compares PUTs that meet with what the real server did with
// them.
func TestPUTsTogether(t *testing.T) {
	tests := []struct {
		name   string
		stall  time.Duration
		gap    time.Duration
		plans  []string // one task each, or the same task if empty
		params string
		puts   int
		want   string // sorted
		runs   int
	}{
		{"slow plan, one after the other", 0, time.Millisecond, []string{"slow_start"}, `{"seconds":6}`, 2, "[409 500]", 1},
		{"slow plan, thrice in a stall", time.Second, time.Millisecond, []string{"slow_start"}, `{"seconds":6}`, 3, "[200 409 500]", 2},
		{"two slow plans in a stall", time.Second, time.Millisecond, []string{"slow_start", "slow_start"}, `{"seconds":6}`, 2, "[500 500]", 2},
		{"two naps in a stall", time.Second, time.Millisecond, []string{"nap", "nap"}, `{"seconds":1}`, 2, "[200 500]", 1},
		// The real one said 409 instead of 500 in half of the tries.
		{"nap, twice in a stall", time.Second, time.Millisecond, []string{"nap"}, `{"seconds":1}`, 2, "[200 500]", 1},
		{"nap, one after the other", 0, time.Millisecond, []string{"nap"}, `{"seconds":1}`, 3, "[200 409 409]", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				var ids []string
				for _, p := range tt.plans {
					ids = append(ids, l.submit(p, tt.params))
				}
				for len(ids) < tt.puts {
					ids = append(ids, ids[0])
				}
				if tt.stall > 0 {
					l.Freeze()
					time.AfterFunc(tt.stall, l.Unfreeze)
				}
				got := l.puts(tt.gap, ids...)
				slices.Sort(got)
				if fmt.Sprint(got) != tt.want {
					t.Errorf("answers %v, want %s", got, tt.want)
				}
				time.Sleep(time.Minute)
				if n := len(l.Runs()); n != tt.runs {
					t.Errorf("%d runs, want %d", n, tt.runs)
				}
			})
		})
	}
}

// TestSlowStart also shows that one call of the worker keeps the others waiting.
func TestSlowStart(t *testing.T) {
	inLab(t, func(l *lab) {
		id := l.submit("slow_start", `{"seconds":7}`)
		var wg sync.WaitGroup
		defer wg.Wait()
		start := time.Now()
		wg.Go(func() {
			if status, err := l.put(id); status != 500 || time.Since(start).Round(time.Second) != 5*time.Second {
				t.Errorf("%d, %v after %v", status, err, time.Since(start))
			}
		})
		time.Sleep(time.Second)
		if s := l.get("/healthz"); s != `{"status":"ok"}` || time.Since(start) > 1100*time.Millisecond {
			t.Errorf("healthz: %s after %v", s, time.Since(start))
		}
		l.get("/worker/state")
		if d := time.Since(start).Round(time.Second); d != 5*time.Second {
			t.Errorf("worker/state answered after %v", d)
		}
		if task := l.task(id); task.IsPending || task.IsComplete {
			t.Errorf("%+v", task)
		}
		time.Sleep(3 * time.Second)
		if task := l.task(id); !task.IsComplete || task.Outcome.Kind != "success" || l.ran(id) != 1 {
			t.Errorf("%+v ran %d times", task, l.ran(id))
		}
	})
}

// errTimeout stands for whatever net/http says of a client's own time-out.
var errTimeout = context.DeadlineExceeded

func TestFaults(t *testing.T) {
	put := sim.Request("PUT", "/worker/task")
	tests := []struct {
		name   string
		fault  sim.Fault
		status int
		err    error
		runs   int // of a task that was PUT once
	}{
		{"lose request, reset", sim.LoseRequest(sim.Reset), 0, syscall.ECONNRESET, 0},
		{"lose request, close", sim.LoseRequest(sim.Close), 0, io.EOF, 0},
		{"lose request, silence", sim.LoseRequest(sim.Silence), 0, errTimeout, 0},
		{"lose answer, reset", sim.LoseAnswer(sim.Reset), 0, syscall.ECONNRESET, 1},
		{"lose answer, close", sim.LoseAnswer(sim.Close), 0, io.EOF, 1},
		{"lose answer, silence", sim.LoseAnswer(sim.Silence), 0, errTimeout, 1},
		{"cut the head", sim.CutAnswer(len("HTTP/1.1 200 OK\r\n"), sim.Close), 0, io.ErrUnexpectedEOF, 1},
		{"cut the last byte", sim.CutAnswer(-1, sim.Close), 200, io.ErrUnexpectedEOF, 1},
		{"cut the body by reset", sim.CutAnswer(-10, sim.Reset), 200, syscall.ECONNRESET, 1},
		{"cut the body in silence", sim.CutAnswer(-10, sim.Silence), 200, errTimeout, 1},
		{"cut after the end", sim.CutAnswer(1<<20, sim.Reset), 200, nil, 1},
		{"status", sim.Status(502), 502, nil, 0},
		{"instead", sim.Instead(sim.Status(504)), 504, nil, 1},
		{"delay", sim.Delay(9 * time.Second), 200, nil, 1},
		{"delay beyond the client", sim.Delay(11 * time.Second), 0, errTimeout, 1},
		{"late", sim.Late(11*time.Second, sim.Reset), 0, syscall.ECONNRESET, 1},
		{"twice", sim.Twice(0), 200, nil, 1},
		{"twice, the second late", sim.Twice(20 * time.Millisecond), 409, nil, 1},
		{"stall", sim.Stall(9 * time.Second), 200, nil, 1},
		{"stall beyond the client", sim.Stall(11 * time.Second), 0, errTimeout, 1},
		{"another request", sim.When(sim.Request("GET", "/tasks/*"), sim.Status(502)), 200, nil, 1},
		{"the second", sim.Nth(2, sim.Status(502)), 200, nil, 1},
		{"the first", sim.First(1, sim.Status(502)), 502, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				id := l.submit("nap", `{"seconds":5}`)
				l.Inject(sim.When(put, tt.fault))
				ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
				defer cancel()
				status, _, err := l.ask(ctx, "PUT", "/api/v1/worker/task", `{"task_id":"`+id+`"}`)
				twice := tt.name == "twice" && status == 500 // either copy may be the one that is told so
				if status != tt.status && !twice || !errors.Is(err, tt.err) {
					t.Errorf("%d, %v; want %d, %v", status, err, tt.status, tt.err)
				}
				time.Sleep(20 * time.Second)
				if n := l.ran(id); n != tt.runs {
					t.Errorf("%d runs, want %d", n, tt.runs)
				}
				l.Heal()
				if task := l.task(id); task.IsComplete != (tt.runs > 0) {
					t.Errorf("%+v", task)
				}
			})
		})
	}
}

// TestWithdrawn: DELETE of a pending task is a fence for a PUT that comes later.
func TestWithdrawn(t *testing.T) {
	inLab(t, func(l *lab) {
		id := l.submit("nap", `{"seconds":1}`)
		late := make(chan int, 1)
		l.Inject(sim.When(sim.Request("PUT", "/worker/*"), func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
			return sim.Late(3*time.Second, sim.Reset)(x, func() sim.Answer {
				a := next()
				late <- a.Status
				return a
			})
		}))
		if _, err := l.put(id); err == nil {
			t.Error("the PUT was answered")
		}
		if status, body, err := l.ask(l.t.Context(), "DELETE", "/tasks/"+id, ""); status != 200 {
			t.Error(status, body, err)
		}
		if status := <-late; status != 404 {
			t.Errorf("the late PUT got %d", status)
		}
		time.Sleep(10 * time.Second)
		if n := len(l.Runs()); n != 0 {
			t.Errorf("%d runs", n)
		}
		if n := len(l.Exchanges()); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
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
		if e := l.environment(); e != before {
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
	inLab(t, func(l *lab) {
		before := l.environment()
		l.Reload()
		time.Sleep(time.Second)
		if s := l.get("/worker/state"); s != `"IDLE"` {
			t.Errorf("the request that does the harm: %s", s)
		}
		time.Sleep(time.Hour)
		if e := l.environment(); e != before {
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
					{Name: "number", Type: sim.Integer}, {Name: "by_far", Type: sim.Bool, Default: false},
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
