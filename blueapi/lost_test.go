package blueapi_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

// TestCommandLostInSilence: an abort that vanishes, and a resume, whose answer may take
// for ever, are not waited for when the worker answers and is where it was.
func TestCommandLostInSilence(t *testing.T) {
	for _, verb := range []blueapi.Verb{blueapi.Abort, blueapi.Pause, blueapi.Resume} {
		for name, f := range map[string]sim.Fault{"request": sim.LoseRequest(sim.Silence), "answer": sim.LoseAnswer(sim.Silence)} {
			t.Run(verb.String()+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":20}`)); err != nil {
						t.Fatal(err)
					}
					if verb == blueapi.Resume {
						if _, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
							t.Fatal(err)
						}
					}
					var k int
					w.Inject(sim.When(sim.Request("PUT", "/worker/state"), func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
						if k++; k > 1 {
							return next()
						}
						return f(x, next)
					}))
					begin := time.Now()
					result, err := w.client.Control(t.Context(), blueapi.Command{Verb: verb})
					limit := 6 * time.Second
					if verb == blueapi.Resume {
						limit = 40 * time.Second // it is answered when the plan has ended
					}
					if took := time.Since(begin); err != nil || took > limit {
						t.Errorf("%v: %+v, %v", took, result, err)
					}
					if name == "request" && result.Unanswered != 1 || name == "answer" && (result.Effect != blueapi.Seen || result.Unanswered != 0) {
						t.Errorf("%+v", result)
					}
				})
			})
		}
	}
}

// TestResumeWhoseAnswerIsLost: the server answers nobody while a resumed plan runs, and
// that may take longer than anything else is waited for.
func TestResumeWhoseAnswerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.client.Start(t.Context(), request("nap", `{"seconds":600}`)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(20*time.Millisecond, func() {
			w.Network().Set(memnet.Kill)
			w.Network().Set(memnet.Healthy)
		})
		begin := time.Now()
		result, err := w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Resume})
		if err != nil || result.Effect != blueapi.Seen || time.Since(begin) > 11*time.Minute {
			t.Errorf("after %v: %+v, %v", time.Since(begin), result, err)
		}
		n := w.count(sim.Request("GET", "/*/*"))
		if n > 10*60/2+20 {
			t.Errorf("%d requests to a server that answers nobody", n)
		}
	})
}

// TestResumeBesideTheNextPlan: a plan that has begun when the resumed one is over was not
// reached by the resume, whether it runs or was paused.
func TestResumeBesideTheNextPlan(t *testing.T) {
	for name, paused := range map[string]bool{"running": false, "paused": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRival(t, request("nap", `{"seconds":2}`), sim.When(sim.Request("PUT", "/worker/state"), sim.First(1, sim.LoseAnswer(sim.Reset))))
				if _, err := r.other.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
					t.Fatal(err)
				}
				next := make(chan struct{})
				go func() {
					defer close(next)
					r.compete(t.Context())
					if paused {
						_, _ = r.other.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause})
					}
				}()
				result, err := r.ours.Control(t.Context(), blueapi.Command{Verb: blueapi.Resume, TaskID: r.run.TaskID()})
				if err != nil || result.Effect != blueapi.Seen || result.Other != "" || !result.Checked {
					t.Errorf("%+v, %v; the next plan is %s", result, err, r.otherRun)
				}
				<-next
				_, _ = r.other.Control(t.Context(), blueapi.Command{Verb: blueapi.Abort})
			})
		})
	}
}

// TestDeleteOfWhatIsNotThere: an attempt of which nothing was sent has deleted nothing.
func TestDeleteOfWhatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Network().Set(memnet.Refuse)
		time.AfterFunc(100*time.Millisecond, func() { w.Network().Set(memnet.Healthy) })
		if err := w.client.DeleteTask(t.Context(), "none"); err == nil {
			t.Error("it was deleted")
		}
	})
}
