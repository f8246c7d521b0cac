package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/journal"
)

// past is a run that a program has begun and died of, or left.
type past struct {
	journal *journal.Journal
	owner   *journal.Owner
	id      string
	task    string
	env     string
}

// pastRunAt makes the journal's part of a run at a server.
func pastRunAt(t *testing.T, url string) *past {
	t.Helper()
	j, id := ownJournal(t), rand.Text()
	o, err := j.Begin(t.Context(), journal.Request{ID: id, At: time.Now(), Server: url, Plan: "nap", Params: json.RawMessage(`{"seconds":0}`)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return &past{journal: j, owner: o, id: id}
}

// step records a step that was taken some time ago.
func (p *past) step(t *testing.T, s journal.Step) {
	t.Helper()
	err := p.owner.Record(t.Context(), journal.Entry{Step: s, At: time.Now().Add(-time.Minute), Task: p.task, Environment: p.env})
	if err != nil {
		t.Fatal(err)
	}
}

// ended records an end.
func (p *past) ended(t *testing.T, e journal.End) {
	t.Helper()
	err := p.owner.Record(t.Context(), journal.Entry{Step: journal.Ended, At: time.Now(), Task: p.task, Environment: p.env, End: &e})
	if err != nil {
		t.Fatal(err)
	}
}

// leave gives the run up, as a program does that dies. Processes that other tests start
// at that moment have its lock too, until they are what they are to be.
func (p *past) leave(t *testing.T) {
	t.Helper()
	p.owner.Close()
	for {
		owned, err := p.journal.Owned(p.id)
		if err != nil || t.Context().Err() != nil {
			t.Fatal(err, t.Context().Err())
		}
		if !owned {
			return
		}
	}
}

// run is what the journal has of it.
func (p *past) run(t *testing.T) journal.Run {
	t.Helper()
	runs, err := p.journal.Runs(t.Context(), journal.Query{ID: p.id})
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	return runs[0]
}

// simulated is a server that is simulated, on the real network.
func simulated(t *testing.T) (s *sim.Server, url string, c *blueapi.Client) {
	t.Helper()
	s = new(sim.Server)
	t.Cleanup(s.Close)
	addr, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c = &blueapi.Client{URL: "http://" + addr}
	t.Cleanup(c.Close)
	return s, c.URL, c
}

// store makes the task of a past run.
func (p *past) store(t *testing.T, c *blueapi.Client) {
	t.Helper()
	env, err := c.Environment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := c.SubmitTask(t.Context(), blueapi.TaskRequest{Name: "nap", Params: json.RawMessage(`{"seconds":0}`), InstrumentSession: "cm1-1"})
	if err != nil {
		t.Fatal(err)
	}
	p.task, p.env = id, env.ID
}

// start has the server run the task of a past run.
func (p *past) start(t *testing.T, url string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/api/v1/worker/task", strings.NewReader(`{"task_id":"`+p.task+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := new(http.Client).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
}

// TestComeBack: a program has died after each step, and what it asked for has arrived or
// not. Whoever comes back is told what became of the plan, and so is the journal; no plan
// runs that had not been started.
func TestComeBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		steps  []journal.Step
		stored bool // the task was made
		begun  bool // the request to start it has arrived
		status status
		say    string
		word   journal.Word
		reason blueapi.Reason
	}{
		{"intent", nil, false, false, statusNotStarted, "safe to run it again", journal.NotStarted, blueapi.Interrupted},
		{
			"not sent",
			[]journal.Step{journal.Starting, journal.NotSent},
			true, false,
			statusNotStarted, "safe to run it again", journal.NotStarted, blueapi.Interrupted,
		},
		{
			"withdrawn",
			[]journal.Step{journal.Starting, journal.Withdrawn},
			false, false,
			statusNotStarted, "safe to run it again", journal.NotStarted, blueapi.Interrupted,
		},
		{
			"starting, and it is lost",
			[]journal.Step{journal.Starting},
			true, false,
			statusNotStarted, "was withdrawn", journal.NotStarted, blueapi.Withdrawn,
		},
		{"starting, and it has arrived", []journal.Step{journal.Starting}, true, true, statusDone, "", journal.Done, blueapi.Ended},
		{"started", []journal.Step{journal.Starting, journal.Started}, true, true, statusDone, "", journal.Done, blueapi.Ended},
		{
			"started again, and it has arrived",
			[]journal.Step{journal.Starting, journal.NotSent, journal.Starting},
			true, true,
			statusDone, "", journal.Done, blueapi.Ended,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, url, c := simulated(t)
			p := pastRunAt(t, url)
			p.task, p.env = "gone", "env"
			if tt.stored {
				p.store(t, c)
			}
			if tt.begun {
				p.start(t, url)
			}
			for _, step := range tt.steps {
				p.step(t, step)
			}

			// Its owner lives: it is only watched, and nothing is recorded.
			before := len(p.run(t).Entries)
			if tt.word == journal.NotStarted {
				_, stderr, got := runHere(t.Context(), url, "attach", "--timeout", "1ms")
				if got != statusStillRunning || !strings.Contains(stderr, "another process has plan nap in hand") {
					t.Errorf("while its owner lives: exit status %d, stderr %q", got, stderr)
				}
			}
			if n := len(p.run(t).Entries); n != before {
				t.Errorf("%d entries were added to a run in another's hands", n-before)
			}

			p.leave(t)
			_, stderr, got := runHere(t.Context(), url, "watch", "--timeout", "1ms")
			if n := len(p.run(t).Entries); n != before {
				t.Errorf("watch added %d entries (exit status %d, stderr %q)", n-before, got, stderr)
			}
			stdout, stderr, got := runHere(t.Context(), url, "attach")
			if got != tt.status || !strings.Contains(stderr, tt.say) || (stdout == "Plan succeeded\n") != (tt.status == statusDone) {
				t.Errorf("exit status %d, stdout %q, stderr %q", got, stdout, stderr)
			}
			if end := p.run(t).End(); end == nil || end.Word != tt.word || reasonOf(end.Reason) != tt.reason {
				t.Errorf("recorded: %+v", end)
			}
			runs := 0
			if tt.begun {
				runs = 1
			}
			if got := len(s.Runs()); got != runs {
				t.Errorf("the plan ran %d times, not %d", got, runs)
			}
			if _, stderr, got := runHere(t.Context(), url, "attach"); got != statusError {
				t.Errorf("a second time: exit status %d, stderr %q", got, stderr)
			}
			if _, stderr, got := runHere(t.Context(), url, "attach", p.id); got != tt.status {
				t.Errorf("a second time, named: exit status %d, stderr %q", got, stderr)
			}
		})
	}
}

// TestWatchWithoutOwner: what was not settled is watched by who only watches, and not
// withdrawn.
func TestWatchWithoutOwner(t *testing.T) {
	t.Parallel()
	_, url, c := simulated(t)
	p := pastRunAt(t, url)
	p.store(t, c)
	p.step(t, journal.Starting)
	p.leave(t)
	_, stderr, got := runHere(t.Context(), url, "watch", "--timeout", "2s")
	if got != statusUnknown || !strings.Contains(stderr, "it may still start or be running: 'adamant attach "+p.task+"' settles it") {
		t.Errorf("exit status %d, stderr %q", got, stderr)
	}
	if task, err := c.Task(t.Context(), p.task); err != nil || !task.IsPending {
		t.Errorf("%+v, %v", task, err)
	}
}

// TestWaitForItsStart: another process is still starting the plan when somebody comes
// back to it, withdraws its task and makes another. Both see the end of that.
func TestWaitForItsStart(t *testing.T) {
	t.Parallel()
	_, url, c := simulated(t)
	p := pastRunAt(t, url)
	p.task, p.env = "withdrawn", "env"
	p.step(t, journal.Starting)
	type end struct {
		stdout, stderr string
		status         status
	}
	ends := make(chan end, 2)
	for _, name := range []string{"attach", "wait"} {
		go func() {
			var e end
			e.stdout, e.stderr, e.status = runHere(context.WithoutCancel(t.Context()), url, name)
			ends <- e
		}()
	}
	p.step(t, journal.Withdrawn)
	p.store(t, c)
	p.step(t, journal.Starting)
	p.start(t, url)
	p.step(t, journal.Started)
	for range cap(ends) {
		if e := <-ends; e.stdout != "Plan succeeded\n" || e.status != statusDone {
			t.Errorf("%+v", e)
		}
	}
	if last := p.run(t).Last().Step; last != journal.Started {
		t.Errorf("%q was recorded by others than the owner", last)
	}
}

// TestSilentServerIsAskedAgain: a run whose server was away is unknown, and may be
// settled when it is back.
func TestSilentServerIsAskedAgain(t *testing.T) {
	t.Parallel()
	_, url, c := simulated(t)
	p := pastRunAt(t, url)
	p.store(t, c)
	p.start(t, url)
	p.step(t, journal.Starting)
	p.step(t, journal.Started)
	p.ended(t, journal.End{Word: journal.Unknown, Reason: reasonText(blueapi.Silent)})
	p.leave(t)
	stdout, _, _ := runHere(t.Context(), url, "history", p.id)
	if want := "word      unknown: silent; 'adamant attach " + p.task + "'\n"; !strings.Contains(stdout, want) {
		t.Errorf("%s\nhas no %q", stdout, want)
	}
	if stdout, stderr, got := runHere(t.Context(), url, "attach"); stdout != "Plan succeeded\n" || got != statusDone {
		t.Errorf("exit status %d, stdout %q, stderr %q", got, stdout, stderr)
	}
	if end := p.run(t).End(); end.Word != journal.Done {
		t.Errorf("recorded: %+v", end)
	}

	// What the server has forgotten, nobody is sent to ask for again.
	p = pastRunAt(t, url)
	p.task, p.env = rand.Text(), "E"
	p.step(t, journal.Starting)
	p.ended(t, journal.End{Word: journal.Unknown, Reason: reasonText(blueapi.EnvironmentChanged)})
	p.leave(t)
	if _, stderr, got := runHere(t.Context(), url, "attach"); got != statusError || !strings.Contains(stderr, "no run that you began") {
		t.Errorf("exit status %d, stderr %q", got, stderr)
	}
	if _, stderr, got := runHere(t.Context(), url, "attach", p.task); got != statusUnknown || !strings.Contains(stderr, "restarted or reloaded") {
		t.Errorf("named: exit status %d, stderr %q", got, stderr)
	}
	p = pastRunAt(t, url) // over a WebSocket
	p.step(t, journal.Starting)
	p.leave(t)
	stdout, _, _ = runHere(t.Context(), url, "history", "--limit", "1000")
	if !strings.Contains(stdout, "'adamant attach "+p.id+"'") {
		t.Errorf("stdout %q", stdout)
	}
	if _, stderr, got := runHere(t.Context(), url, "attach", p.id); got != statusUnknown {
		t.Errorf("over a WebSocket: exit status %d, stderr %q", got, stderr)
	}
	if _, stderr, got := runHere(t.Context(), url, "attach"); got != statusError {
		t.Errorf("over a WebSocket, again: exit status %d, stderr %q", got, stderr)
	}
}
