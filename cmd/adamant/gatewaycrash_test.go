package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// gatewayCrash is a moment at which a gateway is killed while a caller has a plan run
// through it.
type gatewayCrash struct {
	name string
	plan string // the caller's
	// start is what becomes of the request to start the plan besides.
	start func() sim.Fault // one for each server, as it counts
	// request is the one to the server, counted from 1, at which it happens, and mishap
	// what becomes of that.
	request int
	mishap  mishap
}

func gatewayCrashes() (all []gatewayCrash) {
	put := sim.Request("PUT", "/worker/task")
	const nap, slow = `{"name":"nap","params":{"seconds":0.5}`, `{"name":"slow_start","params":{"seconds":2}`
	for _, c := range []gatewayCrash{
		{name: "plain", plan: nap},
		{name: "slow", plan: slow}, // the server would run it twice
		{name: "answer lost", plan: nap, start: func() sim.Fault { return sim.When(put, sim.First(1, sim.LoseAnswer(sim.Reset))) }},
		{name: "start lost", plan: nap, start: func() sim.Fault { return sim.When(put, sim.First(1, sim.LoseRequest(sim.Reset))) }},
	} {
		for c.request = 1; c.request <= 30; c.request++ {
			for _, name := range slices.Sorted(maps.Keys(mishaps())) {
				one := c
				one.name, one.mishap = fmt.Sprintf("%s, request %d %s", c.name, c.request, name), mishaps()[name]
				all = append(all, one)
			}
		}
	}
	return all
}

// TestGatewayCrash kills a gateway at any moment of a run through it, and starts another
// on the same socket: the plan runs once at most, what its caller is told is true, and
// the task keeps the id by which its caller knows it. A caller whose own request was cut
// off may ask for the same start again.
func TestGatewayCrash(t *testing.T) {
	t.Parallel()
	all := gatewayCrashes()
	if os.Getenv("ADAMANT_SWEEP") != "all" {
		rng := rand.New(rand.NewPCG(6, 2))
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		// A task that is deleted late is waited for, for forty seconds.
		all = slices.DeleteFunc(all, func(c gatewayCrash) bool {
			return strings.Contains(c.name, "20 s") || strings.Contains(c.name, "late") && strings.HasPrefix(c.name, "start lost")
		})[:24]
	}
	var mu sync.Mutex
	words := map[string]int{}
	t.Cleanup(func() { t.Logf("%d crashes: %v", len(all), words) })
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			word := c.test(t)
			mu.Lock()
			defer mu.Unlock()
			words[word]++
		})
	}
}

func (c gatewayCrash) test(t *testing.T) (word string) {
	var s sim.Server
	t.Cleanup(s.Close)
	at, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	dir := t.TempDir()
	var said lockedText
	begin := func() *exec.Cmd {
		g := exec.CommandContext(t.Context(), "adamant", "gateway", "--upstream", "http://"+at, "--listen", "fd:3")
		g.Env = append(os.Environ(), quickExit, "HOME="+dir, "XDG_STATE_HOME="+dir)
		g.ExtraFiles, g.Stderr = []*os.File{socket}, &said
		out, err := g.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("%q, %v: %s", line, err, &said)
		}
		return g
	}
	doomed := begin()
	died := make(chan time.Time, 1)
	kill := sync.OnceFunc(func() {
		_ = doomed.Process.Kill()
		_ = doomed.Wait()
		died <- time.Now()
	})
	s.Inject(sim.Nth(c.request, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		return c.mishap(x, next, kill)
	}))
	if c.start != nil {
		s.Inject(c.start())
	}

	var second *exec.Cmd
	var killed time.Time
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		select {
		case killed = <-died:
			second = begin()
		case <-t.Context().Done():
		}
	}()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	u := &gatewayUser{t: t, client: client, url: "http://" + l.Addr().String(), plan: c.plan}
	word, id := u.run()
	for { // it is to be killed, if only afterwards
		select {
		case <-restarted:
		default:
			u.get("/worker/state")
			continue
		}
		break
	}
	if second == nil {
		return word
	}
	defer func() {
		_ = second.Process.Kill()
		_ = second.Wait()
	}()
	if d, ok := lateness(c.name); ok { // what is late is to arrive
		time.Sleep(time.Until(killed.Add(d + time.Second)))
	}
	runs := s.Runs()
	switch {
	case len(runs) > 1:
		t.Errorf("%s: the plan ran %d times", word, len(runs))
	case word == "started" && len(runs) == 0:
		t.Errorf("%s, and it did not run", word)
	case word == "not started" && len(runs) > 0:
		t.Errorf("%s, and it ran", word)
	}
	if word == "started" {
		if got := u.await(id); got.ID != id || got.Outcome == nil {
			t.Errorf("task %s in the end: %+v", id, got)
		}
	}
	if t.Failed() {
		for _, x := range s.Exchanges() {
			t.Logf("%s %s %s: %d", x.Time.Format("05.000"), x.Method, x.URL.Path, x.Status)
		}
		t.Logf("killed %s\n%s\n%s", killed.Format("05.000"), u.told.String(), said.String())
	}
	return word
}

// lateness reads how late the request of a mishap arrives.
func lateness(name string) (time.Duration, bool) {
	_, late, ok := strings.Cut(name, "late ")
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(strings.ReplaceAll(late, " ", ""))
	return d, err == nil
}

// gatewayUser is a caller who asks again when its connection is cut, as people do, and
// does not make another task.
type gatewayUser struct {
	t      *testing.T
	client *http.Client
	url    string
	plan   string // the beginning of a task
	told   strings.Builder
}

// ask asks until it is answered.
func (u *gatewayUser) ask(method, path, body string) (status int, header http.Header, answer []byte) {
	for {
		r, err := http.NewRequestWithContext(u.t.Context(), method, u.url+path, strings.NewReader(body))
		if err != nil {
			u.t.Fatal(err)
		}
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		resp, err := u.client.Do(r)
		if err == nil {
			answer, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			fmt.Fprintf(&u.told, "%s %s: %d %s %s\n", method, path, resp.StatusCode, resp.Header.Get("Adamant-Verdict"), answer)
			return resp.StatusCode, resp.Header, answer
		}
		fmt.Fprintf(&u.told, "%s %s: %v\n", method, path, err)
		if u.t.Context().Err() != nil {
			u.t.Fatal(u.told.String())
		}
	}
}

func (u *gatewayUser) get(path string) (int, []byte) {
	status, _, b := u.ask(http.MethodGet, path, "")
	return status, b
}

// run has a plan run and says what it was told came of it: started, not started or
// unknown.
func (u *gatewayUser) run() (word, id string) {
	status, _, b := u.ask(http.MethodPost, "/tasks", u.plan+`,"instrument_session":"cm12345-1"}`)
	var task struct {
		ID string `json:"task_id"`
	}
	if status != http.StatusCreated || json.Unmarshal(b, &task) != nil {
		u.t.Fatalf("%d %s", status, b)
	}
	for range 20 {
		status, header, _ := u.ask(http.MethodPut, "/worker/task", `{"task_id":"`+task.ID+`"}`)
		switch verdict := header.Get("Adamant-Verdict"); {
		case status == http.StatusOK:
			u.await(task.ID)
			return "started", task.ID
		case verdict == "unknown":
			return "unknown", task.ID
		case verdict == "withdrawn":
			return "not started", task.ID
		case status == http.StatusNotFound, status == http.StatusConflict:
			// So the server says too of a task that was started before.
			if status, _ := u.get("/tasks/" + task.ID); status == http.StatusNotFound {
				return "not started", task.ID
			}
			if got := u.await(task.ID); got.Outcome != nil {
				return "started", task.ID
			}
			return "unknown", task.ID
		case verdict != "not-sent":
			u.t.Errorf("PUT: %d %q", status, verdict)
			return "unknown", task.ID
		}
	}
	u.t.Error("it is never started")
	return "unknown", task.ID
}

// await waits for the end of a task.
func (u *gatewayUser) await(id string) (task blueapi.Task) {
	ctx, cancel := context.WithTimeout(u.t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		status, b := u.get("/tasks/" + id)
		if status == http.StatusNotFound {
			return task
		}
		if status == http.StatusOK && json.Unmarshal(b, &task) == nil && task.Outcome != nil {
			return task
		}
		time.Sleep(50 * time.Millisecond)
	}
	return task
}

// lockedText is what several programs have said.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
