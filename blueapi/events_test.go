package blueapi_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

// follow has the client follow its runs by events, and keeps them.
func (w *world) follow(c *blueapi.Client) *record {
	r := new(record)
	c.Broker = &blueapi.Broker{Address: "broker.sim:61613", Dial: w.DialBroker}
	c.RunTrace = &blueapi.RunTrace{
		Event:   r.event,
		Blind:   func(err error) { r.note("blind"); r.blind = err },
		Started: func(string) { r.note("started") },
		Paused:  func(string) { r.note("paused") },
		Resumed: func(string) { r.note("resumed") },
	}
	return r
}

// record is what a run has told.
type record struct {
	mu     sync.Mutex
	events []blueapi.Event
	notes  []string
	blind  error
	stall  time.Duration // of the consumer, at the first event
}

func (r *record) event(e blueapi.Event) {
	if d := r.stall; d > 0 {
		r.stall = 0
		time.Sleep(d)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *record) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, s)
}

// words is the record in short.
func (r *record) words() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var words []string
	for _, e := range r.events {
		switch {
		case e.Worker != nil:
			s := string(e.Worker.State)
			if e.Worker.Task != nil && e.Worker.Task.Complete {
				s += "!"
			}
			words = append(words, s)
		case e.Data != nil:
			words = append(words, e.Data.Name)
		case e.Progress != nil:
			words = append(words, "progress")
		case e.Gap != nil && e.Gap.Until.IsZero():
			words = append(words, "gap...")
		case e.Gap != nil:
			words = append(words, "gap")
		}
	}
	return strings.Join(slices.Compact(words), " ")
}

// inBubble is a test in virtual time with a world and a record of its run.
func inBubble(t *testing.T, test func(t *testing.T, w *world, r *record)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		test(t, w, w.follow(w.client))
	})
}

var documents = request("many_events", `{"n":3,"delay":0.5}`)

const wholeRun = "RUNNING start descriptor event stop IDLE IDLE!"

// TestStartApart: a run that is started apart is followed by its own trace and broker.
func TestStartApart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		other := w.newClient(t)
		apart := w.follow(other)
		for name, broker := range map[string]*blueapi.Broker{wholeRun: other.Broker, "": nil} {
			run, err := w.client.StartApart(t.Context(), documents, broker, other.RunTrace)
			if err != nil {
				t.Fatal(err)
			}
			result, err := run.Wait(t.Context())
			run.Close()
			if err != nil || result.Word != blueapi.Done || apart.words() != name {
				t.Errorf("%+v %v: %s", result, err, apart.words())
			}
			apart.events = nil
		}
		if len(apart.notes) != 2 || len(r.notes) != 0 || r.words() != "" {
			t.Errorf("%v; the client's own: %v %s", apart.notes, r.notes, r.words())
		}
	})
}

func TestEventsOfARun(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		listening, cancel := context.WithCancel(t.Context())
		other := w.client.Broker.Listen(listening)
		defer other.Close()
		defer cancel()
		result, err := w.client.Run(t.Context(), documents)
		if got := r.words(); got != wholeRun {
			t.Errorf("%s", got)
		}
		for _, e := range r.events {
			if e.TaskID != result.TaskID || len(e.Raw) == 0 || e.At.IsZero() {
				t.Errorf("%+v", e)
			}
		}
		if r.blind != nil {
			t.Error(r.blind)
		}
		w.truth(t, "", result, err)
	})
}

// TestEventsOfOthers: events of another client's plan are not those of the run.
func TestEventsOfOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		var rival sync.WaitGroup
		c := w.newClient(t)
		rival.Go(func() {
			for ; ; time.Sleep(100 * time.Millisecond) {
				if _, err := c.Run(t.Context(), request("many_events", `{"n":1}`)); err == nil {
					return
				}
			}
		})
		_, err := w.client.Run(t.Context(), request("many_events", `{"n":2,"delay":1}`))
		if err != nil && blueapi.WordOf(err) != blueapi.NotStarted {
			t.Error(err)
		}
		rival.Wait()
		if got := r.words(); err == nil && got != wholeRun {
			t.Errorf("%s", got)
		}
	})
}

// TestEndEventLost: the run ends within two seconds of its plan although nobody says
// that it has, and the events that are missing are told as a gap.
func TestEndEventLost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		w.InjectBroker(stomp.When(func(p *stomp.Passage) bool {
			return p.Sent && p.Frame != nil && strings.Contains(string(p.Frame.Body), `"task_complete":true`)
		}, stomp.Drop))
		result, err := w.client.Run(t.Context(), documents)
		if late := time.Since(w.Runs()[0].Ended); late > 2*time.Second {
			t.Errorf("%v after the end", late)
		}
		if got := r.words(); got != "RUNNING start descriptor event stop IDLE gap" {
			t.Errorf("%s", got)
		}
		if result.Outcome == nil || result.Outcome.Kind != "success" {
			t.Errorf("%+v", result)
		}
		w.truth(t, "", result, err)
	})
}

// TestNoBrokerAtFirst: without events the run is followed by polling, and they come
// when the broker does.
func TestNoBrokerAtFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		w.client.Broker.Dial = w.Network().DialContext
		w.client.Broker.Address = "nobody.example:61613"
		begin := time.Now()
		result, err := w.client.Run(t.Context(), documents)
		if r.blind == nil || !slices.Equal(r.notes, []string{"blind", "started"}) {
			t.Errorf("%v, %v", r.notes, r.blind)
		}
		if began := w.Runs()[0].Began.Sub(begin); began > 3500*time.Millisecond {
			t.Errorf("begun after %v", began)
		}
		if got := r.words(); got != "gap..." {
			t.Errorf("%s", got)
		}
		w.truth(t, "", result, err)
	})
}

// TestPasscodeRefused: a broker that refuses costs the events, not the run.
func TestPasscodeRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		w.InjectBroker(stomp.When(func(p *stomp.Passage) bool {
			return stomp.Receives("CONNECT")(p) // the server sends STOMP
		}, stomp.Refuse("Bad CONNECT", "Access refused")))
		result, err := w.client.Run(t.Context(), documents)
		refused, ok := errors.AsType[*stomp.Error](r.blind)
		if !ok || refused.Command != "CONNECT" {
			t.Errorf("%v", r.blind)
		}
		w.truth(t, "", result, err)
	})
}

// TestBrokerLost stops the broker in mid-plan for a while: the gap is told, when it
// begins and when it is over, and the run ends with the truth.
func TestBrokerLost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		time.AfterFunc(1500*time.Millisecond, w.StopBroker)
		time.AfterFunc(3*time.Second, w.StartBroker)
		result, err := w.client.Run(t.Context(), request("nap", `{"seconds":20}`))
		if got := r.words(); got != "RUNNING gap... gap IDLE IDLE!" {
			t.Errorf("%s", got)
		}
		if result.Reason != blueapi.Ended {
			t.Errorf("%+v", result)
		}
		w.truth(t, "", result, err)
	})
}

// TestUnpublished: a plan that is recorded as failed, because the server could not
// tell its broker of the end, is shown as what it is.
func TestUnpublished(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		time.AfterFunc(time.Second, w.StopBroker)
		result, err := w.client.Run(t.Context(), request("nap", `{"seconds":3}`))
		if result.Reason != blueapi.Unpublished || result.Outcome != nil || result.Task.Outcome.Type != "ExceptionGroup" {
			t.Errorf("%+v", result)
		}
		if late := time.Since(w.Runs()[0].Ended); late > 4*time.Second {
			t.Errorf("%v after the end", late)
		}
		w.truth(t, "", result, err)
	})
}

// TestEventsComeOnce, although a server that was started without its broker publishes
// each of them several times when that is there.
func TestEventsComeOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		w.NoBroker = true
		result, err := w.client.Run(t.Context(), documents)
		if result.Reason != blueapi.Unpublished || err != nil {
			t.Fatalf("%+v, %v", result, err)
		}
		w.StartBroker()
		time.Sleep(time.Minute)
		r.events = nil
		all := w.client.Broker.Listen(t.Context())
		defer all.Close()
		if result, err = w.client.Run(t.Context(), documents); err != nil {
			t.Fatalf("%+v, %v", result, err)
		}
		if len(r.events) != len(strings.Fields(wholeRun))+2 { // it has three points
			t.Errorf("%d events: %s", len(r.events), r.words())
		}
		published := 0
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := all.Next(ctx)
			cancel()
			if err != nil {
				break
			}
			published++
		}
		if published < 2*len(r.events) {
			t.Errorf("published only %d: this tests nothing", published)
		}
	})
}

// TestPauseIsNotTheEnd, although the server publishes that the task is complete and
// failed, and records it so.
func TestPauseIsNotTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		other := w.newClient(t)
		time.AfterFunc(time.Second, func() {
			if _, err := other.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
				t.Error(err)
			}
		})
		time.AfterFunc(20*time.Second, func() {
			if _, err := other.Control(t.Context(), blueapi.Command{Verb: blueapi.Resume}); err != nil {
				t.Error(err)
			}
		})
		result, err := w.client.Run(t.Context(), request("nap", `{"seconds":5}`))
		if time.Since(w.Runs()[0].Began) < 20*time.Second {
			t.Error("the pause was taken for the end")
		}
		if !slices.Equal(r.notes, []string{"started", "paused", "resumed"}) {
			t.Errorf("%v", r.notes)
		}
		if result.Reason != blueapi.NotRecorded {
			t.Errorf("%+v", result)
		}
		w.truth(t, "", result, err)
	})
}

// TestResumedForLong: while a plan that was resumed goes on the server answers nobody,
// for longer than a run is patient. The events tell that from a server that is gone.
func TestResumedForLong(t *testing.T) {
	for name, fall := range map[string]func(*world){
		"the plan ends": nil, "the server is restarted": func(w *world) { w.Restart(time.Hour) },
		"both are out of reach": func(w *world) { w.Network().Set(memnet.BlackHole) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world, r *record) {
				other := w.newClient(t)
				time.AfterFunc(time.Second, func() {
					if _, err := other.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
						t.Error(err)
					}
				})
				ctx, cancel := context.WithCancel(t.Context())
				var resuming sync.WaitGroup
				time.AfterFunc(5*time.Second, func() {
					resuming.Go(func() { _, _ = other.Control(ctx, blueapi.Command{Verb: blueapi.Resume}) })
				})
				begin := time.Now()
				fell := time.AfterFunc(400*time.Second, func() {
					if fall != nil {
						fall(w)
					}
				})
				defer fell.Stop()
				result, err := w.client.Run(t.Context(), request("nap", `{"seconds":600}`))
				took := time.Since(begin)
				cancel()
				resuming.Wait()
				switch {
				case fall == nil && (err != nil || result.Reason != blueapi.NotRecorded || took < 600*time.Second || took > 606*time.Second):
					t.Errorf("%+v, %v after %v", result, err, took)
				case fall != nil && (result.Reason != blueapi.Silent || took < 400*time.Second || took > 540*time.Second):
					t.Errorf("%+v, %v after %v", result, err, took)
				}
			})
		})
	}
}

// TestSilentAfterAResumedEnd: a server that is out of reach when a resumed plan has ended,
// as its events say, is not waited for longer than others, though its broker is heard.
func TestSilentAfterAResumedEnd(t *testing.T) {
	for name, away := range map[string]time.Duration{"for ever": time.Hour, "for a while": 50 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world, r *record) {
				other := w.newClient(t)
				time.AfterFunc(time.Second, func() {
					if _, err := other.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
						t.Error(err)
					}
				})
				ctx, cancel := context.WithCancel(t.Context())
				var resuming sync.WaitGroup
				time.AfterFunc(5*time.Second, func() {
					resuming.Go(func() { _, _ = other.Control(ctx, blueapi.Command{Verb: blueapi.Resume}) })
				})
				ended := func() bool { runs := w.Runs(); return len(runs) > 0 && !runs[0].Ended.IsZero() }
				w.Inject(sim.When(func(*sim.Exchange) bool { return ended() && time.Since(w.Runs()[0].Ended) < away }, sim.LoseRequest(sim.Silence)))
				limited, stop := context.WithTimeout(t.Context(), 30*time.Minute)
				defer stop()
				result, err := w.client.Run(limited, request("nap", `{"seconds":300}`))
				took := time.Since(w.Runs()[0].Ended)
				cancel()
				resuming.Wait()
				want := blueapi.Silent
				if away < time.Minute {
					want = blueapi.NotRecorded
				}
				if result.Reason != want || took > 3*time.Minute {
					t.Errorf("%v after the end: %+v, %v", took, result, err)
				}
			})
		})
	}
}

// TestWaitAgainForEvents: who leaves and comes back misses no event.
func TestWaitAgainForEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		run, err := w.client.Start(t.Context(), request("many_events", `{"n":40,"delay":0.1}`))
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		for range 30 {
			ctx, cancel := context.WithTimeout(t.Context(), 73*time.Millisecond)
			result, err := run.Wait(ctx)
			cancel()
			if result.Reason != blueapi.Abandoned || !result.Started {
				t.Fatalf("%+v, %v", result, err)
			}
		}
		result, err := run.Wait(t.Context())
		if got := r.words(); got != wholeRun {
			t.Errorf("%s", got)
		}
		n := 0
		for _, e := range r.events {
			if e.Data != nil && e.Data.Name == "event" {
				n++
			}
		}
		if n != 40 {
			t.Errorf("%d documents", n)
		}
		w.truth(t, "", result, err)
	})
}

// TestSlowConsumer: one that stands still for ten seconds loses nothing, and the
// connection does not suffer.
func TestSlowConsumer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		r.stall = 10 * time.Second
		result, err := w.client.Run(t.Context(), request("many_events", `{"n":2000,"delay":0.001}`))
		if got := r.words(); got != wholeRun {
			t.Errorf("%s", got)
		}
		if len(r.events) != 2006 {
			t.Errorf("%d events", len(r.events))
		}
		w.truth(t, "", result, err)
	})
}

// TestRunLeftOpen: a run that was started and closed leaves nothing behind: the
// bubble would notice.
func TestRunLeftOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, _ *record) {
		run, err := w.client.Start(t.Context(), nap)
		if err != nil {
			t.Fatal(err)
		}
		run.Close()
		run.Close()
		result, err := run.Wait(t.Context())
		w.truth(t, "", result, err)
	})
}
