package blueapi_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
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

// TestEventsBehindOthers: the events of a plan that has ended before anybody waited are
// told although those of an earlier one, which came first, say that it runs.
func TestEventsBehindOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		task, err := w.client.SubmitTask(t.Context(), documents)
		if err != nil {
			t.Fatal(err)
		}
		run, err := w.client.Attach(t.Context(), blueapi.Attachment{TaskID: task})
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		time.Sleep(time.Second)
		w.StopBroker()
		w.StartBroker()
		w.client.RunTrace.Event = func(e blueapi.Event) {
			if r.event(e); e.Gap != nil {
				time.Sleep(time.Second) // while it is seen that the plan is over
			}
		}
		time.Sleep(time.Minute)
		for range 20 {
			if _, err := w.newClient(t).Run(t.Context(), nap); err != nil {
				t.Fatal(err)
			}
		}
		start(t, w, task)
		time.Sleep(time.Minute)
		if result, err := run.Wait(t.Context()); err != nil || result.Word != blueapi.Done {
			t.Errorf("%+v, %v", result, err)
		}
		if got := r.words(); got != "gap "+wholeRun {
			t.Errorf("%s", got)
		}
	})
}

// TestEndlessEventsOfOthers: they do not keep a run from ending whose own end event is
// lost.
func TestEndlessEventsOfOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		w.InjectBroker(stomp.When(func(p *stomp.Passage) bool {
			return p.Sent && p.Frame != nil && len(w.Runs()) > 0 && !w.Runs()[0].Ended.IsZero() && bytes.Contains(p.Frame.Body, []byte(`"state"`))
		}, stomp.Drop))
		rival := w.newClient(t)
		var routines sync.WaitGroup
		routines.Go(func() {
			time.Sleep(time.Second)
			for ; ; time.Sleep(10 * time.Millisecond) {
				if _, err := rival.Run(t.Context(), request("many_events", `{"n":600,"delay":0.1}`)); err == nil {
					return
				}
			}
		})
		if _, err := w.client.Run(t.Context(), documents); err != nil {
			t.Error(err)
		}
		if late := time.Since(w.Runs()[0].Ended); late > 2*time.Second {
			t.Errorf("%v after the end", late)
		}
		if got := r.words(); !strings.HasSuffix(got, " gap") {
			t.Errorf("%s", got)
		}
		routines.Wait()
	})
}

// TestEventTooLargeAfterGap: one that is dropped as the first after a gap does not hide
// that the gap is over, so that the end event is missed if it does not come.
func TestEventTooLargeAfterGap(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		var back sync.Once
		large := bytes.Repeat([]byte("x"), 33<<20)
		begin := time.Now()
		w.InjectBroker(func(p *stomp.Passage, next func(*stomp.Frame)) {
			if p.Sent && p.Frame != nil && p.Frame.Command == "MESSAGE" && time.Since(begin) > 10*time.Second {
				back.Do(func() {
					headers := slices.DeleteFunc(slices.Clone(p.Frame.Headers), func(h stomp.Header) bool { return h.Name == "content-length" })
					next(&stomp.Frame{Command: "MESSAGE", Headers: headers, Body: large})
				})
				if bytes.Contains(p.Frame.Body, []byte(`"task_complete":true`)) {
					return
				}
			}
			next(p.Frame)
		})
		w.client.RunTrace.Event = func(e blueapi.Event) {
			r.event(e)
			time.Sleep(time.Until(begin.Add(20300 * time.Millisecond)))
		}
		time.AfterFunc(1500*time.Millisecond, w.StopBroker)
		time.AfterFunc(3*time.Second, w.StartBroker)
		_, err := w.client.Run(t.Context(), request("nap", `{"seconds":20}`))
		if got := r.words(); err != nil || got != "RUNNING gap... gap IDLE gap" {
			t.Errorf("%s, %v", got, err)
		}
	})
}

// TestPauseIsToldOnce, although an answer that says so comes after the event that the
// plan goes on.
func TestPauseIsToldOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		other := w.newClient(t)
		w.client.Header = func(_ context.Context, h http.Header) { h.Set("X-Watches", "yes") }
		begin := time.Now()
		w.Inject(sim.When(sim.Request("GET", "/worker/state"), func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
			a := next()
			if x.Header.Get("X-Watches") != "" && bytes.Contains(a.Body, []byte(blueapi.StatePaused)) {
				time.Sleep(time.Until(begin.Add(6 * time.Second)))
			}
			return a
		}))
		time.AfterFunc(time.Second, func() {
			if _, err := other.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}); err != nil {
				t.Error(err)
			}
		})
		time.AfterFunc(4*time.Second, func() {
			if _, err := other.Control(t.Context(), blueapi.Command{Verb: blueapi.Resume}); err != nil {
				t.Error(err)
			}
		})
		result, err := w.client.Run(t.Context(), request("nap", `{"seconds":20}`))
		if !slices.Equal(r.notes, []string{"started", "paused", "resumed"}) {
			t.Errorf("%v", r.notes)
		}
		w.truth(t, "", result, err)
	})
}

// TestAttachToEnded: nobody waits for the events of a plan that had ended before, nor
// says that they are missing.
func TestAttachToEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, r *record) {
		ended, err := w.newClient(t).Run(t.Context(), nap)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		result, err := attach(t.Context(), w.client, blueapi.Attachment{TaskID: ended.TaskID})
		if took := time.Since(begin); took > 100*time.Millisecond || len(r.events) > 0 {
			t.Errorf("%v, %s", took, r.words())
		}
		w.truth(t, "", result, err)
	})
}

// TestNoBrokerAndLittleTime: a broker that is away does not use up the caller's time.
func TestNoBrokerAndLittleTime(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, _ *record) {
		var away memnet.Network
		away.Set(memnet.BlackHole)
		w.client.Broker.Dial = away.DialContext
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		result, err := w.client.Run(ctx, nap)
		if result.Word != blueapi.Done {
			t.Errorf("%+v, %v", result, err)
		}
		w.truth(t, "", result, err)
	})
}

// TestQueuedBehindAfterSilence: it is not the caller who ended a run of which the client
// itself cut off the silent request to start it.
func TestQueuedBehindAfterSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		other := w.newClient(t)
		w.Inject(sim.When(sim.Request("PUT", "/worker/task"), sim.First(1, func(*sim.Exchange, func() sim.Answer) sim.Answer {
			if _, err := other.Start(t.Context(), request("nap", `{"seconds":200}`)); err != nil {
				t.Error(err)
			}
			return sim.Answer{End: sim.Silence}
		})))
		result, err := w.client.Run(t.Context(), nap)
		e, ok := errors.AsType[*blueapi.RunError](err)
		if !ok || result.Reason != blueapi.Queued || e.Other == "" {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

// TestDeletedOnlyWhilePending: the request to start the task arrives after the request
// to delete it got lost, which is not sent again then.
func TestDeletedOnlyWhilePending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		lost := make(chan struct{})
		w.Inject(
			sim.When(sim.Request("PUT", "/worker/task"), sim.First(1, func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				go func() {
					<-lost
					next()
				}()
				return sim.Answer{End: sim.Reset}
			})),
			sim.When(sim.Request("DELETE", "/tasks/*"), sim.First(1, func(*sim.Exchange, func() sim.Answer) sim.Answer {
				close(lost)
				return sim.Answer{End: sim.Reset}
			})),
		)
		result, err := w.client.Run(t.Context(), request("nap", `{"seconds":10}`))
		if err != nil || result.Word != blueapi.Done || len(w.Runs()) != 1 {
			t.Errorf("%+v, %v, %d runs", result, err, len(w.Runs()))
		}
	})
}
