package blueapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

// The requests of a run.
var (
	del      = sim.Request("DELETE", "/tasks/*")
	getTask  = sim.Request("GET", "/tasks/*")
	getEnv   = sim.Request("GET", "/environment")
	getState = sim.Request("GET", "/worker/state")
	getTaken = sim.Request("GET", "/worker/task")
)

// answer is one of blueapi's own.
func answer(status int, body string) sim.Fault {
	return func(*sim.Exchange, func() sim.Answer) sim.Answer {
		a := sim.Answer{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)}
		a.Header.Set("X-Blueapi-Version", sim.Version)
		if status == http.StatusInternalServerError {
			a.Header = http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
		}
		return a
	}
}

// interrupted has the record of a task that has ended say what that of one which is
// paused, aborted or stopped says.
func interrupted(x *sim.Exchange, next func() sim.Answer) sim.Answer {
	a := next()
	if !strings.Contains(string(a.Body), `"is_complete":true`) {
		return a
	}
	id := x.URL.Path[strings.LastIndex(x.URL.Path, "/")+1:]
	return answer(200, `{"task_id":"`+id+`","is_complete":true,"is_pending":false,"outcome":{"outcome":"error","type":"RunEngineInterrupted"}}`)(x, next)
}

func meanwhile(f func(x *sim.Exchange)) sim.Fault {
	return func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		f(x)
		return next()
	}
}

func (w *world) count(m sim.Match) int {
	n := 0
	for _, x := range w.Exchanges() {
		if m(&x) {
			n++
		}
	}
	return n
}

func TestProtocol(t *testing.T) {
	const text500 = "Internal Server Error"
	instant := request("returns", `{"value":1}`)
	cancelRun := func() {}
	refuse := func(w *world, d time.Duration) {
		w.Network().Set(memnet.Refuse)
		time.AfterFunc(d, func() { w.Network().Set(memnet.Healthy) })
	}
	// starting does something, once, as the request to start is about to be sent.
	starting := func(w *world, f func(task string)) {
		w.client.RunTrace = &blueapi.RunTrace{Starting: func(task string) {
			w.client.RunTrace.Starting = nil
			f(task)
		}}
	}
	plain := func(t *testing.T, w *world, method, path, body string) {
		t.Helper()
		conn := &http.Client{Transport: &http.Transport{DialContext: w.DialContext}}
		defer conn.CloseIdleConnections()
		sendPlain(t, conn, method, path, body)
	}
	notLooking := func(t *testing.T, w *world) {
		w.client.RunTrace = &blueapi.RunTrace{Looking: func(_ string, err error) { t.Errorf("looking: %v", err) }}
	}
	away := func(d time.Duration) func(*testing.T, *world) {
		return func(_ *testing.T, w *world) {
			w.Inject(sim.When(put, sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				next()
				w.Network().Set(memnet.Kill)
				time.AfterFunc(d, func() { w.Network().Set(memnet.Healthy) })
				return sim.Answer{End: sim.Reset}
			})))
		}
	}
	for name, tc := range map[string]struct {
		plan    blueapi.TaskRequest
		prepare func(t *testing.T, w *world)
		want    blueapi.Reason
		within  time.Duration // 0 is any time
		least   time.Duration
		puts    int // requests to start, deletions and tasks made; 0 is any number
		dels    int // -1 is none
		posts   int
	}{
		"a late start is awaited for a second": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(put, sim.First(1, sim.Late(500*time.Millisecond, sim.Reset))))
		}, blueapi.Ended, 0, 0, 1, -1, 1},
		"after a 500 it is awaited for six": {nap, func(_ *testing.T, w *world) {
			w.Inject(
				sim.When(put, sim.First(1, sim.Instead(answer(500, text500)))),
				sim.When(put, sim.First(1, sim.Late(3*time.Second, sim.Whole))),
			)
		}, blueapi.Ended, 0, 0, 1, -1, 1},
		"begun as it is withdrawn": {nap, func(t *testing.T, w *world) {
			var task string
			w.client.RunTrace = &blueapi.RunTrace{Starting: func(id string) { task = id }}
			w.Inject(
				sim.When(put, sim.Nth(1, sim.LoseRequest(sim.Reset))),
				sim.When(del, sim.First(1, meanwhile(func(*sim.Exchange) {
					plain(t, w, "PUT", "/worker/task", `{"task_id":"`+task+`"}`)
				}))),
			)
		}, blueapi.RecordLost, 0, 0, 2, 1, 1},
		"deleted as it is withdrawn": {nap, func(t *testing.T, w *world) {
			w.Inject(
				sim.When(put, sim.First(1, sim.LoseRequest(sim.Reset))),
				sim.When(del, sim.Nth(1, meanwhile(func(x *sim.Exchange) { plain(t, w, "DELETE", x.URL.Path, "") }))),
			)
		}, blueapi.Removed, 0, 0, 1, 2, 1},
		"begun before it is withdrawn": {nap, func(t *testing.T, w *world) {
			var task string
			w.client.RunTrace = &blueapi.RunTrace{Starting: func(id string) { task = id }}
			w.Inject(
				sim.When(put, sim.Nth(1, sim.LoseRequest(sim.Reset))),
				sim.When(getState, sim.Nth(1, meanwhile(func(*sim.Exchange) {
					plain(t, w, "PUT", "/worker/task", `{"task_id":"`+task+`"}`)
				}))),
			)
		}, blueapi.Ended, 0, 0, 2, -1, 1},
		"restarted as it is withdrawn": {nap, func(_ *testing.T, w *world) {
			w.Inject(
				sim.When(put, sim.First(1, sim.LoseRequest(sim.Reset))),
				sim.When(del, sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
					a := next()
					time.AfterFunc(time.Millisecond, func() { w.Restart(time.Second) })
					return a
				})),
				sim.When(getTaken, sim.When(func(*sim.Exchange) bool { return w.count(del) > 0 }, sim.Delay(10*time.Millisecond))),
			)
		}, blueapi.EnvironmentChanged, 0, 0, 1, 1, 1},
		"restarted as the task was stored": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(getEnv, sim.Nth(2, func(*sim.Exchange, func() sim.Answer) sim.Answer {
				w.Restart(100 * time.Millisecond)
				return sim.Answer{End: sim.Reset}
			})))
		}, blueapi.Ended, 0, 0, 1, -1, 2},
		"not sent": {nap, func(_ *testing.T, w *world) {
			starting(w, func(string) { refuse(w, 200*time.Millisecond) })
		}, blueapi.Ended, 0, 0, 1, -1, 1},
		"not sent, and restarted": {nap, func(_ *testing.T, w *world) {
			starting(w, func(string) { w.Restart(100 * time.Millisecond) })
		}, blueapi.Ended, 0, 0, 1, -1, 2},
		"not sent, and deleted": {nap, func(t *testing.T, w *world) {
			starting(w, func(task string) {
				plain(t, w, "DELETE", "/tasks/"+task, "")
				refuse(w, 200*time.Millisecond)
			})
		}, blueapi.Ended, 0, 0, 1, 1, 2},
		"not sent, and started by somebody": {nap, func(t *testing.T, w *world) {
			starting(w, func(task string) {
				plain(t, w, "PUT", "/worker/task", `{"task_id":"`+task+`"}`)
				refuse(w, 200*time.Millisecond)
			})
		}, blueapi.Ended, 0, 0, 1, -1, 1},
		"busy": {instant, func(_ *testing.T, w *world) { w.Inject(sim.When(put, answer(409, `{"detail":"no"}`))) }, blueapi.Busy, 900 * time.Millisecond, 0, 1, 1, 1},
		"paused": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(put, answer(500, text500)), sim.When(getState, answer(200, `"PAUSED"`)))
		}, blueapi.Busy, 0, 0, 1, 1, 1},
		"stuck": {nap, func(_ *testing.T, w *world) { w.Inject(sim.When(put, answer(500, text500))) }, blueapi.Stuck, 0, 0, 1, 1, 1},
		"busy before it is idle": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(put, sim.First(1, answer(409, `{"detail":"no"}`))))
		}, blueapi.Busy, 0, 0, 1, 1, 1},
		"not found, though it is there": {instant, func(_ *testing.T, w *world) {
			w.Inject(sim.When(put, sim.First(1, answer(404, `{"detail":"Item not found"}`))))
		}, blueapi.Ended, 900 * time.Millisecond, 0, 2, 1, 2},
		"a slow deletion is not made twice": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(put, sim.First(1, sim.LoseRequest(sim.Reset))), sim.When(del, sim.Delay(5*time.Second)))
		}, blueapi.Ended, 0, 0, 2, 1, 2},
		"a slow submission is not made twice": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(post, sim.Delay(5*time.Second)))
		}, blueapi.Ended, 0, 0, 1, -1, 1},
		"a slow start is awaited, not made twice": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(put, sim.Delay(5*time.Second)))
		}, blueapi.Ended, 0, 0, 1, -1, 1},
		"a server that stands still is given 15 s": {nap, func(t *testing.T, w *world) {
			notLooking(t, w)
			w.Inject(sim.When(put, sim.Stall(12*time.Second)))
		}, blueapi.Ended, 0, 0, 1, -1, 1},
		"a late start is given a second look": {nap, func(t *testing.T, w *world) {
			notLooking(t, w)
			w.Inject(sim.When(put, sim.Delay(6500*time.Millisecond)))
		}, blueapi.Ended, 0, 0, 1, -1, 1},
		"deleted while it is started": {nap, func(t *testing.T, w *world) {
			w.Inject(
				sim.When(put, sim.First(1, sim.LoseRequest(sim.Silence))),
				sim.When(getTask, sim.Nth(1, meanwhile(func(x *sim.Exchange) { plain(t, w, "DELETE", x.URL.Path, "") }))),
			)
		}, blueapi.Removed, 0, 0, 1, 1, 1},
		"cancelled before it is started": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(getEnv, sim.Nth(2, func(*sim.Exchange, func() sim.Answer) sim.Answer {
				cancelRun()
				return sim.Answer{End: sim.Silence}
			})))
		}, blueapi.Interrupted, time.Second, 0, -1, -1, 1},
		"a silent read is made beside": {instant, func(_ *testing.T, w *world) {
			w.Inject(sim.When(getEnv, sim.First(1, sim.LoseRequest(sim.Silence))))
		}, blueapi.Ended, 2 * time.Second, 0, 1, -1, 1},
		"away for 50 s after the start":                 {nap, away(50 * time.Second), blueapi.Ended, 0, 0, 1, -1, 1},
		"away for 3 min after the start":                {nap, away(3 * time.Minute), blueapi.Silent, 90 * time.Second, 0, 1, -1, 1},
		"away for 3 min, and a client that waits for 5": {nap, func(t *testing.T, w *world) { w.client.Wait = 5 * time.Minute; away(3*time.Minute)(t, w) }, blueapi.Ended, 0, 0, 1, -1, 1},
		"paused for a while, then aborted": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(getTask, interrupted), sim.When(getState, sim.First(3, answer(200, `"PAUSED"`))))
		}, blueapi.NotRecorded, 0, 0, 1, -1, 1},
		"still running, says the worker": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(getTask, interrupted), sim.When(getState, answer(200, `"RUNNING"`)))
			time.AfterFunc(10*time.Second, func() { w.Heal(); w.Inject(sim.When(getTask, interrupted)) })
		}, blueapi.NotRecorded, 15 * time.Second, 10 * time.Second, 1, -1, 1},
		"panicked": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(getTask, interrupted), sim.When(getState, answer(200, `"PANICKED"`)))
		}, blueapi.NotRecorded, 10 * time.Second, 0, 1, -1, 1},
		"another plan is paused": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(getTask, interrupted), sim.When(getState, answer(200, `"PAUSED"`)), sim.When(getTaken, answer(200, `{"task_id":"other"}`)))
		}, blueapi.NotRecorded, 10 * time.Second, 0, 1, -1, 1},
		"aborted": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(getTask, interrupted))
		}, blueapi.NotRecorded, 0, 0, 1, -1, 1},
		"the answer to a start is cut": {instant, func(t *testing.T, w *world) {
			notLooking(t, w)
			w.Inject(sim.When(put, sim.CutAnswer(-5, sim.Close)))
		}, blueapi.Ended, 500 * time.Millisecond, 0, 1, -1, 1},
		"refused before": {request("nap", `{"wrong":1}`), func(*testing.T, *world) {}, blueapi.Refused, 0, 0, 0, -1, 1},
		"a server that is loading": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(put, answer(404, `{"detail":"Item not found"}`)), sim.When(getTask, answer(404, `{"detail":"Item not found"}`)),
				sim.When(getEnv, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
					if w.count(put) == 0 {
						return next()
					}
					return answer(200, `{"environment_id":"`+environmentOf(next())+`","initialized":false}`)(x, next)
				}))
		}, blueapi.EnvironmentChanged, 10 * time.Second, 0, 1, -1, 1},
		"a server that is reloaded, and shows it late": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(put, answer(404, `{"detail":"Item not found"}`)), sim.When(getTask, answer(404, `{"detail":"Item not found"}`)))
			time.AfterFunc(20*time.Second, func() { w.Inject(sim.When(getEnv, answer(200, `{"environment_id":"new","initialized":true}`))) })
		}, blueapi.EnvironmentChanged, 25 * time.Second, 20 * time.Second, 1, -1, 1},
		"a server that is wedged": {nap, func(_ *testing.T, w *world) {
			w.Inject(sim.When(put, answer(404, `{"detail":"Item not found"}`)), sim.When(getTask, answer(404, `{"detail":"Item not found"}`)),
				sim.When(getState, sim.When(func(*sim.Exchange) bool { return w.count(getState) > 1 }, answer(500, text500))))
		}, blueapi.EnvironmentChanged, 0, 0, 1, -1, 1},
		"begun, and its record deleted before it was seen": {request("nap", `{"seconds":90}`), func(t *testing.T, w *world) {
			w.Inject(
				sim.When(put, sim.First(1, sim.LoseAnswer(sim.Reset))),
				sim.When(getTask, sim.Nth(1, meanwhile(func(x *sim.Exchange) { plain(t, w, "DELETE", x.URL.Path, "") }))),
			)
		}, blueapi.RecordLost, 0, 0, 1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // less than for ever
				defer cancel()
				cancelRun = cancel
				tc.prepare(t, w)
				start := time.Now()
				result, err := w.client.Run(ctx, tc.plan)
				if result.Reason != tc.want {
					t.Errorf("%v, reason %d: %v", result.Word, result.Reason, err)
				}
				if took := time.Since(start); tc.within > 0 && took > tc.within || took < tc.least {
					t.Errorf("took %v", took)
				}
				for what, n := range map[string][2]int{
					"starts": {w.count(put), tc.puts}, "deletions": {w.count(del), tc.dels}, "tasks": {w.count(post), tc.posts},
				} {
					if n[1] != 0 && n[0] != max(n[1], 0) {
						t.Errorf("%s: %d, not %d", what, n[0], n[1])
					}
				}
				w.truth(t, name, result, err)
			})
		})
	}
}

// TestJournalOfARun: what is journalled is enough to know, after a crash, whether
// the plan can have been started; and it is written though the caller has gone.
func TestJournalOfARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		j := new(contextJournal)
		w.client.Journal = j
		w.client.RunTrace = &blueapi.RunTrace{Starting: func(string) {
			if len(j.steps) == 2 {
				w.Network().Set(memnet.Refuse)
				time.AfterFunc(200*time.Millisecond, func() { w.Network().Set(memnet.Healthy) })
			}
		}}
		result, err := w.client.Run(t.Context(), nap)
		w.truth(t, "not sent", result, err)
		want := []blueapi.Step{
			blueapi.StepIntent, blueapi.StepStarting, blueapi.StepNotSent, blueapi.StepStarting, blueapi.StepStarted, blueapi.StepEnded,
		}
		if fmt.Sprint(j.steps) != fmt.Sprint(want) {
			t.Errorf("steps %v", j.steps)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		j := new(contextJournal)
		w.client.Journal = j
		ctx, cancel := context.WithCancel(t.Context())
		w.Inject(sim.When(put, meanwhile(func(*sim.Exchange) {
			if last := j.steps[len(j.steps)-1]; last != blueapi.StepStarting {
				t.Errorf("the last step before the start was %d", last)
			}
			cancel()
		})))
		result, err := w.client.Run(ctx, nap)
		if result.Reason != blueapi.Abandoned || j.steps[len(j.steps)-1] != blueapi.StepEnded {
			t.Errorf("reason %d, steps %v: %v", result.Reason, j.steps, err)
		}
		w.truth(t, "cancelled", result, err)
	})
	full := errors.New("disk full")
	for _, fail := range []blueapi.Step{blueapi.StepNotSent, blueapi.StepWithdrawn} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.client.Journal = &journal{fail: map[blueapi.Step]error{fail: full}}
			if fail == blueapi.StepWithdrawn {
				w.Inject(sim.When(put, sim.First(1, sim.LoseRequest(sim.Reset))))
			} else {
				w.client.RunTrace = &blueapi.RunTrace{Starting: func(string) {
					w.Network().Set(memnet.Refuse)
					time.AfterFunc(200*time.Millisecond, func() { w.Network().Set(memnet.Healthy) })
				}}
			}
			result, err := w.client.Run(t.Context(), nap)
			if result.Reason != blueapi.JournalFailed || !errors.Is(err, full) {
				t.Errorf("step %d: reason %d, %v", fail, result.Reason, err)
			}
			w.truth(t, "journal", result, err)
		})
	}
}

// contextJournal writes nothing for callers that have gone.
type contextJournal struct{ journal }

func (j *contextJournal) Record(ctx context.Context, e blueapi.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return j.journal.Record(ctx, e)
}

// TestPathsStayInMidRun: an answer 404 of a proxy does not make a client think that
// a server it knows is an older one.
func TestPathsStayInMidRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(sim.When(put, sim.First(1, answer(404, `{"detail":"Not Found"}`))))
		result, err := w.client.Run(t.Context(), nap)
		w.truth(t, "run", result, err)
		for _, x := range w.Exchanges() {
			if !strings.HasPrefix(x.URL.Path, "/api/v1/") {
				t.Errorf("%s %s", x.Method, x.URL.Path)
			}
		}
	})
}

// sendPlain sends a request as a client without retries does, and does not look
// at the answer.
func sendPlain(t *testing.T, c *http.Client, method, path, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, blueapi.DefaultURL+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Error(err)
		return
	}
	_ = resp.Body.Close()
}

func environmentOf(a sim.Answer) string {
	var env blueapi.Environment
	_ = json.Unmarshal(a.Body, &env)
	return env.ID
}

// startPlain starts a task so.
func (w *world) startPlain(t *testing.T, id string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: w.DialContext}}
	defer c.CloseIdleConnections()
	sendPlain(t, c, http.MethodPut, "/worker/task", `{"task_id":"`+id+`"}`)
}
