package sim_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// A target is a server that is held to recordings of its events.
type target struct {
	t          testing.TB
	url        string // of the REST API
	dial       func(context.Context) (net.Conn, error)
	dialBroker func(context.Context) (net.Conn, error)
	client     *http.Client
	pending    int // tasks, before a case
}

// onTarget runs a test against the simulator, in virtual time.
func onTarget(t *testing.T, test func(*target)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var s sim.Server
		t.Cleanup(s.Close)
		test(newTarget(t, "http://blueapi.example:8000",
			func(ctx context.Context) (net.Conn, error) { return s.DialContext(ctx, "tcp", "") },
			func(ctx context.Context) (net.Conn, error) { return s.DialBroker(ctx, "tcp", "") }))
	})
}

func newTarget(t testing.TB, url string, dial, dialBroker func(context.Context) (net.Conn, error)) *target {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	return &target{t: t, url: url, dial: dial, dialBroker: dialBroker, client: &http.Client{Transport: tr}}
}

func (g *target) send(method, path, body string) (int, string) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.url+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := g.client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (g *target) submit(plan, params string) (id string) {
	g.t.Helper()
	_, b := g.send("POST", "/tasks", request(plan, params))
	var v struct {
		ID string `json:"task_id"`
	}
	if err := json.Unmarshal([]byte(b), &v); err != nil || v.ID == "" {
		g.t.Fatal(plan, b)
	}
	return v.ID
}

func (g *target) start(plan, params string) (id string) {
	g.t.Helper()
	id = g.submit(plan, params)
	if status, b := g.send("PUT", "/worker/task", `{"task_id":"`+id+`"}`); status != http.StatusOK {
		g.t.Fatal(plan, status, b)
	}
	return id
}

func (g *target) state() string {
	g.t.Helper()
	_, b := g.send("GET", "/worker/state", "")
	return strings.Trim(b, `"`)
}

// until waits for a state of the worker.
func (g *target) until(state string) {
	g.t.Helper()
	for range 600 {
		if g.state() == state {
			time.Sleep(100 * time.Millisecond) // and the task's record is closed
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	g.t.Fatalf("the worker does not get %s", state)
}

// change asks the worker for a state and holds the answer to that recorded, which
// for a state may be any of several.
func (g *target) change(state, reason string, want ...string) {
	g.t.Helper()
	body := `{"new_state":"` + state + `"}`
	if reason != "" {
		body = `{"new_state":"` + state + `","reason":"` + reason + `"}`
	}
	_, got := g.send("PUT", "/worker/state", body)
	for _, w := range want {
		if got = strings.Trim(got, `"`); got == w {
			return
		}
	}
	g.t.Errorf("PUT /worker/state %s: %s, recorded %s", body, got, want)
}

// A recorded line is a frame, or says what was done.
type recordedLine struct {
	At    float64 `json:"t"`
	Dir   string
	Frame string
	Event string
	Code  *int
	// Reason goes with an Event.
	Reason *string
	Note   string
	After  float64
	State  string
	// Outcome is of a task, in a Note.
	Outcome json.RawMessage
}

func loadLines(t testing.TB, path ...string) (lines []recordedLine) {
	t.Helper()
	f, err := os.Open(filepath.Join(append([]string{"testdata"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var l recordedLine
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			t.Fatal(path, err)
		}
		lines = append(lines, l)
	}
	if in.Err() != nil || len(lines) == 0 {
		t.Fatal(path, in.Err())
	}
	return lines
}
