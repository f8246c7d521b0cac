package blueapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/retry"
)

const runEngineInterrupted = "RunEngineInterrupted"

// rival is a second plan that another client starts as soon as the worker is free,
// for a control command to stray to.
type rival struct {
	*world
	ours  *blueapi.Client
	other *blueapi.Client
	run   *blueapi.Run // the plan that our command is meant for

	mu       sync.Mutex
	last     string    // the task that the latest answer to ours named as the worker's
	lastAt   time.Time // when our client had that answer
	commands []command
	otherRun string // task of the other plan, once it was started
}

// command is a control request that our client began to write.
type command struct {
	at, guardedAt time.Time
	guard         string
}

// newRival starts our plan, and the other client that waits for its end. Faults are
// for our requests alone.
func newRival(t *testing.T, plan blueapi.TaskRequest, faults ...sim.Fault) *rival {
	t.Helper()
	w := newWorld(t)
	w.Network().Latency = time.Millisecond
	r := &rival{world: w, ours: w.client, other: w.newClient(t)}
	r.ours = &blueapi.Client{
		Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := w.DialContext(ctx, network, addr)
			return &writes{conn, r}, err
		}},
		Header: func(_ context.Context, h http.Header) { h.Set("X-Ours", "yes") },
		Trace: &retry.Trace{Attempted: func(_ context.Context, a retry.AttemptInfo, rec retry.Record) {
			if a.Op == "GET /worker/task" && rec.Err == nil {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.lastAt = time.Now()
			}
		}},
	}
	t.Cleanup(r.ours.Close)
	r.Inject(r.observe)
	var err error
	if r.run, err = r.other.Start(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	mine := func(x *sim.Exchange) bool { return x.Header.Get("X-Ours") != "" }
	for _, f := range faults {
		r.Inject(sim.When(mine, f))
	}
	return r
}

// writes sees when a command is written.
type writes struct {
	net.Conn
	rival *rival
}

func (c *writes) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, []byte("PUT /api/v1/worker/state ")) {
		c.rival.mu.Lock()
		c.rival.commands = append(c.rival.commands, command{at: time.Now(), guardedAt: c.rival.lastAt, guard: c.rival.last})
		c.rival.mu.Unlock()
	}
	return c.Conn.Write(b)
}

// observe sees which task the server's answers to our client name.
func (r *rival) observe(x *sim.Exchange, next func() sim.Answer) sim.Answer {
	a := next()
	var body struct {
		ID *string `json:"task_id"`
	}
	if x.Header.Get("X-Ours") == "" || x.Method != http.MethodGet || !strings.HasSuffix(x.URL.Path, "/worker/task") ||
		a.Status != http.StatusOK || json.Unmarshal(a.Body, &body) != nil {
		return a
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = ""
	if body.ID != nil {
		r.last = *body.ID
	}
	return a
}

// compete starts the other plan when the worker is free, until the context ends.
func (r *rival) compete(ctx context.Context) {
	for ctx.Err() == nil {
		if state, err := r.other.WorkerState(ctx); err == nil && state == blueapi.StateIdle {
			if run, err := r.other.Start(ctx, request("nap", `{"seconds":30}`)); err == nil {
				r.mu.Lock()
				r.otherRun = run.TaskID()
				r.mu.Unlock()
				return
			}
		}
		select {
		case <-time.After(3 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// outcome is the type of the outcome of a task, long after.
func (r *rival) outcome(t *testing.T, id string) string {
	t.Helper()
	if id == "" {
		return ""
	}
	task, err := r.other.Task(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if task.Outcome == nil {
		return ""
	}
	return task.Outcome.Type
}

// judge compares what a command said with what it did, once all has arrived that was
// late.
func (r *rival) judge(t *testing.T, what string, verb blueapi.Verb, result blueapi.ControlResult, err error) {
	t.Helper()
	r.Heal()
	time.Sleep(10 * time.Minute)
	r.mu.Lock()
	defer r.mu.Unlock()
	ours := r.run.TaskID()
	for _, c := range r.commands {
		if age := c.at.Sub(c.guardedAt); c.guard != ours || age > time.Second {
			t.Errorf("%s: a request to %s was written %v after a guard that named %q, not %q", what, verb, age, c.guard, ours)
		}
	}
	told := result.Other != "" || result.Unanswered > 0 || result.Effect == blueapi.Accepted && !result.Checked
	if r.outcome(t, r.otherRun) == runEngineInterrupted && !told {
		t.Errorf("%s: the other plan was hit, and nothing was said: %+v, %v", what, result, err)
	}
	if result.Other != "" && result.Other != r.otherRun {
		t.Errorf("%s: the other plan is %s, not %s", what, r.otherRun, result.Other)
	}
	if result.Effect != 0 && result.Checked && r.outcome(t, ours) != runEngineInterrupted {
		t.Errorf("%s: effect %d, but the plan ended in %q", what, result.Effect, r.outcome(t, ours))
	}
	if (err == nil) != (result.Effect != 0) {
		t.Errorf("%s: effect %d and error %v", what, result.Effect, err)
	}
	if err == nil {
		return
	}
	e, ok := errors.AsType[*blueapi.ControlError](err)
	if !ok {
		t.Fatalf("%s: %v", what, err)
	}
	switch e.Reason {
	case blueapi.NotActive, blueapi.NotCurrent, blueapi.ControlUnreachable:
		if len(r.commands) > 0 {
			t.Errorf("%s: %v, but %d were written", what, err, len(r.commands))
		}
	case blueapi.AlreadyOver:
		if r.outcome(t, ours) == runEngineInterrupted {
			t.Errorf("%s: %v, but the plan was interrupted", what, err)
		}
	}
}

// commandFaults are what can befall a request and its answer.
func commandFaults(rng *rand.Rand) (string, sim.Fault) {
	end := pick(rng, []sim.End{sim.Reset, sim.Close, sim.Silence})
	d := between(rng, 10*time.Millisecond, 20*time.Second)
	switch rng.IntN(9) {
	case 0:
		return fmt.Sprintf("lost (%v)", end), sim.LoseRequest(end)
	case 1:
		return fmt.Sprintf("answer lost (%v)", end), sim.LoseAnswer(end)
	case 2:
		return fmt.Sprintf("late by %v (%v)", d, end), sim.Late(d, end)
	case 3:
		return fmt.Sprintf("delayed by %v", d), sim.Delay(d)
	case 4:
		return fmt.Sprintf("stalled for %v", d), sim.Stall(d)
	case 5:
		return "502", sim.Status(502)
	case 6:
		return "502 after it was done", sim.Instead(sim.Status(502))
	case 7:
		return "answer cut off", sim.CutAnswer(-1-rng.IntN(8), end)
	}
	return "504 after it was done", sim.Instead(sim.Status(504))
}

// TestPromise6 sends control commands at any moment of a plan's last seconds while
// another client starts a plan as soon as that has ended, with faults at any request and
// outages at any time. No command is sent but within a second of seeing its task as the
// worker's, and if the other plan was hit, that is said.
func TestPromise6(t *testing.T) {
	n := 400
	if everything() {
		n = 10_000
	}
	kinds := outages()
	var sent, hit int
	for seed := range uint64(n) {
		rng := rand.New(rand.NewPCG(seed, 6))
		verb := pick(rng, []blueapi.Verb{blueapi.Abort, blueapi.Abort, blueapi.Stop, blueapi.Pause})
		named := rng.IntN(2) == 0
		left := between(rng, time.Millisecond, 4*time.Second)
		var what strings.Builder
		fmt.Fprintf(&what, "seed %d: %v %v before the end, named %v", seed, verb, left, named)
		var faults []sim.Fault
		for range rng.IntN(3) {
			name, f := commandFaults(rng)
			path, k := pick(rng, [][2]string{{"PUT", "/worker/state"}, {"PUT", "/worker/state"}, {"GET", "/worker/*"}, {"*", "/*/*"}}), 1+rng.IntN(4)
			faults = append(faults, sim.When(sim.Request(path[0], path[1]), sim.Nth(k, f)))
			fmt.Fprintf(&what, "; %s %s no. %d %s", path[0], path[1], k, name)
		}
		var o *outage
		var at, long time.Duration
		if rng.IntN(3) == 0 {
			o, at, long = &kinds[rng.IntN(len(kinds))], time.Duration(rng.IntN(50))*time.Millisecond, between(rng, 50*time.Millisecond, 5*time.Second)
			fmt.Fprintf(&what, "; %s for %v after %v", o.name, long, at)
		}
		synctest.Test(t, func(t *testing.T) {
			r := newRival(t, request("nap", `{"seconds":5}`), faults...)
			time.Sleep(5*time.Second - left)
			ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
			defer stop()
			var others sync.WaitGroup
			others.Go(func() { r.compete(ctx) })
			if o != nil {
				others.Go(func() {
					time.Sleep(at)
					o.begin(r.world)
					time.Sleep(long)
					o.end(r.world)
					r.Inject(r.observe) // it may have been healed away
				})
			}
			cmd := blueapi.Command{Verb: verb}
			if named {
				cmd.TaskID = r.run.TaskID()
			}
			begin := time.Now()
			result, err := r.ours.Control(ctx, cmd)
			if !named && result.TaskID != r.run.TaskID() {
				stop() // it was meant for the other plan from the start
				others.Wait()
				return
			}
			if took := time.Since(begin); took > 4*time.Minute {
				t.Errorf("%s: took %v", &what, took)
			}
			if verb == blueapi.Pause && err == nil {
				_, _ = r.other.Control(ctx, blueapi.Command{Verb: blueapi.Abort})
			}
			others.Wait()
			r.judge(t, what.String(), verb, result, err)
			sent += len(r.commands)
			if r.outcome(t, r.otherRun) == runEngineInterrupted {
				hit++
			}
		})
		if t.Failed() {
			break
		}
	}
	t.Logf("%d commands: %d requests, the other plan was hit in %d", n, sent, hit)
}

// TestControlOutlastsAnOutage is promise 1 for the control commands: an outage of a
// second, beginning at any moment, costs time only.
func TestControlOutlastsAnOutage(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	oneIn := 100
	if everything() {
		oneIn = 4
	}
	for _, verb := range []blueapi.Verb{blueapi.Pause, blueapi.Abort, blueapi.Stop, blueapi.Resume} {
		for _, o := range outages() {
			t.Run(verb.String()+"/"+o.name, func(t *testing.T) {
				for at := -time.Second; at <= 20*time.Millisecond; at += time.Millisecond {
					if rng.IntN(oneIn) != 0 {
						continue
					}
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						w.Network().Latency = time.Millisecond
						run, err := w.client.Start(t.Context(), request("nap", `{"seconds":60}`))
						if err != nil {
							t.Fatal(err)
						}
						if verb == blueapi.Resume {
							if _, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
								t.Fatal(err)
							}
						}
						const lead = 2 * time.Second
						over := make(chan struct{})
						go func() {
							defer close(over)
							time.Sleep(lead + at)
							o.begin(w)
							time.Sleep(time.Second)
							o.end(w)
						}()
						time.Sleep(lead)
						result, err := w.client.Control(t.Context(), blueapi.Command{Verb: verb})
						if err != nil || result.TaskID != run.TaskID() || result.Other != "" {
							t.Errorf("from %v: %+v, %v", at, result, err)
						}
						<-over
					})
				}
			})
		}
	}
}

// TestControlOfWhatIsNotThere: nothing is sent.
func TestControlOfWhatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		expect := func(cmd blueapi.Command, why blueapi.ControlReason, text string) {
			t.Helper()
			result, err := w.client.Control(t.Context(), cmd)
			e, ok := errors.AsType[*blueapi.ControlError](err)
			if !ok || e.Reason != why || result.Sent != 0 || text != "" && err.Error() != text {
				t.Errorf("%v: %+v, %v", cmd, result, err)
			}
		}
		expect(blueapi.Command{Verb: blueapi.Abort}, blueapi.NotActive, "Cannot transition from IDLE to ABORTING")
		expect(blueapi.Command{Verb: blueapi.Stop, TaskID: "nonesuch"}, blueapi.NotCurrent, "")
		run, err := w.client.Start(t.Context(), request("nap", `{"seconds":1}`))
		if err != nil {
			t.Fatal(err)
		}
		expect(blueapi.Command{Verb: blueapi.Resume}, blueapi.NotActive, "Cannot transition from RUNNING to RUNNING")
		expect(blueapi.Command{Verb: blueapi.Pause, TaskID: "nonesuch"}, blueapi.NotCurrent, "")
		if _, err := run.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(blueapi.Command{Verb: blueapi.Pause}, blueapi.NotActive, "Cannot transition from IDLE to PAUSED")
		expect(blueapi.Command{Verb: blueapi.Abort, TaskID: run.TaskID()}, blueapi.NotActive, "")
		for _, x := range w.Exchanges() {
			if x.Method == http.MethodPut && bytes.Contains(x.Body, []byte("new_state")) {
				t.Errorf("sent: %s", x.Body)
			}
		}
	})
}

// TestAbortOfAPendingTask withdraws it, so that a request to start it that is late finds
// nothing.
func TestAbortOfAPendingTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id, err := w.client.SubmitTask(t.Context(), nap)
		if err != nil {
			t.Fatal(err)
		}
		result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort, TaskID: id})
		if err != nil || result.Effect != blueapi.TaskWithdrawn || !result.Checked || result.Sent != 0 {
			t.Errorf("%+v, %v", result, err)
		}
		if _, err := w.client.Task(t.Context(), id); err == nil {
			t.Error("the task is still there")
		}
	})
}

// TestControlBeforeOthersAtTheGate: a thousand waiting reads do not hold an abort up.
func TestControlBeforeOthersAtTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Network().Latency = time.Millisecond
		if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":60}`)); err != nil {
			t.Fatal(err)
		}
		w.Network().Set(memnet.Refuse)
		var readers sync.WaitGroup
		for range 1000 {
			readers.Go(func() { _, _ = w.client.Plans(t.Context()) })
		}
		time.Sleep(10 * time.Millisecond)
		time.AfterFunc(time.Second, func() { w.Network().Set(memnet.Healthy) })
		begin := time.Now()
		result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort})
		if err != nil || result.Effect != blueapi.Accepted {
			t.Errorf("%+v, %v", result, err)
		}
		if took := time.Since(begin); took > 1900*time.Millisecond {
			t.Errorf("took %v", took)
		}
		readers.Wait()
	})
}

// TestNestedControl: inside a caller that retries, a command that may have been sent is
// not sent again by us.
func TestNestedControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":60}`)); err != nil {
			t.Fatal(err)
		}
		w.Inject(sim.When(sim.Request("PUT", "/worker/state"), sim.First(1, sim.LoseRequest(sim.Reset))))
		result, err := w.client.Control(retry.Within(t.Context()), blueapi.Command{Verb: blueapi.Abort})
		if e, ok := errors.AsType[*blueapi.ControlError](err); !ok || e.Reason != blueapi.ControlSilent || result.Sent != 1 {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

func TestPasswordNeverInControlErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.client.URL = "http://user:hunter2@blueapi.sim:8000"
		w.Network().Set(memnet.Refuse)
		_, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort, Reason: "x"})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Error(err)
		}
	})
}
