package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/memnet"
)

// everything tells whether the sweeps are to be made in full, which takes minutes;
// otherwise a seeded sample of them is.
func everything() bool { return os.Getenv("ADAMANT_SWEEP") == "all" }

const latency = time.Millisecond

// world is a simulated server, a gateway before it, and callers of that who know
// nothing of retrying, in a bubble of virtual time.
type world struct {
	*testing.T
	sim.Server
	gateway *gateway.Gateway
	front   memnet.Network // between callers and gateway
	addr    string
	caller  *caller

	mu      sync.Mutex
	records []gateway.Record
}

// newWorld makes one; set may change the gateway before it is used.
func newWorld(t *testing.T, set func(*world)) *world {
	t.Helper()
	w := &world{T: t}
	w.gateway = &gateway.Gateway{
		Upstream: "http://blueapi.example", Transport: &http.Transport{DialContext: w.DialContext},
		Log: func(r gateway.Record) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.records = append(w.records, r)
		},
	}
	w.Network().Latency = latency
	w.front.Latency = latency
	if set != nil {
		set(w)
	}
	w.addr = serve(t, &w.front, w.gateway)
	w.caller = newCaller(t, &w.front, w.addr)
	t.Cleanup(func() {
		w.caller.http.CloseIdleConnections()
		w.gateway.Close()
		w.Close()
	})
	return w
}

// serve has a handler listen on a network.
func serve(t *testing.T, n *memnet.Network, h http.Handler) (addr string) {
	t.Helper()
	l, err := n.Listen("gateway.example:80")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Close()
		served.Wait()
	})
	return l.Addr().String()
}

// did returns the records of the requests with a method and a path.
func (w *world) did(method, path string) []gateway.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.records), func(r gateway.Record) bool { return r.Method != method || r.Path != path })
}

// asked counts the requests that reached the server with a method and a path, versioned
// or not.
func (w *world) asked(method, path string) int {
	n := 0
	for _, x := range w.Exchanges() {
		if x.Method == method && strings.TrimPrefix(x.URL.Path, "/api/v1") == path {
			n++
		}
	}
	return n
}

// caller asks by plain net/http, once.
type caller struct {
	t    *testing.T
	http *http.Client
	url  string
}

func newCaller(t *testing.T, n *memnet.Network, addr string) *caller {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return n.DialContext(ctx, network, addr)
	}
	return &caller{t: t, url: "http://gateway.example", http: &http.Client{
		Transport:     &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 2000},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// answer is what a caller got.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
	took   time.Duration
	at     time.Time // when it came
}

func (a answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("%d %s", a.status, a.body)
}

// ask sends a request. headers are names and values.
func (c *caller) ask(ctx context.Context, method, path, body string, headers ...string) answer {
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, in)
	if err != nil {
		return answer{err: err}
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	begin := time.Now()
	resp, err := c.http.Do(r)
	if err != nil {
		return answer{err: err, took: time.Since(begin)}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b), err, time.Since(begin), time.Now()}
}

func (c *caller) get(path string, headers ...string) answer {
	return c.ask(context.Background(), http.MethodGet, path, "", headers...)
}

func (c *caller) start(id string, headers ...string) answer {
	return c.ask(context.Background(), http.MethodPut, "/worker/task", `{"task_id":"`+id+`"}`, headers...)
}

func (c *caller) state(to string, headers ...string) answer {
	return c.ask(context.Background(), http.MethodPut, "/worker/state", `{"new_state":"`+to+`"}`, headers...)
}

func task(plan, params string) string {
	return `{"name":"` + plan + `","params":` + params + `,"instrument_session":"cm12345-1"}`
}

var (
	nap       = task("nap", `{"seconds":0.5}`)
	longNap   = task("nap", `{"seconds":60}`)
	slowStart = task("slow_start", `{"seconds":6}`)
)

// submit stores a task.
func (c *caller) submit(body string, headers ...string) (id string) {
	c.t.Helper()
	a := c.ask(context.Background(), http.MethodPost, "/tasks", body, headers...)
	var out struct {
		ID string `json:"task_id"`
	}
	if a.err != nil || a.status != http.StatusCreated || json.Unmarshal([]byte(a.body), &out) != nil {
		c.t.Fatalf("submitting: %v", a)
	}
	return out.ID
}

// read reads a task.
func (c *caller) read(id string, headers ...string) (task blueapi.Task, status int) {
	c.t.Helper()
	a := c.get("/tasks/"+id, headers...)
	if a.status == http.StatusOK && json.Unmarshal([]byte(a.body), &task) != nil {
		c.t.Errorf("reading a task: %v", a)
	}
	return task, a.status
}

// await waits for the end of a task.
func (c *caller) await(id string) blueapi.Task {
	c.t.Helper()
	for range 600 {
		if t, status := c.read(id); status != http.StatusOK || t.IsComplete {
			return t
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Errorf("task %s does not end", id)
	return blueapi.Task{}
}

// detailOf reads an error's body.
func detailOf(t *testing.T, a answer) string {
	t.Helper()
	var d struct {
		Detail string `json:"detail"`
	}
	if err := json.Unmarshal([]byte(a.body), &d); err != nil || d.Detail == "" {
		t.Errorf("%v: no detail", a)
	}
	return d.Detail
}
