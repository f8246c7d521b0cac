package gateway_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/memnet"
)

// TestUnsettledInANewEnvironment: a start of which nobody knows is not forgotten when the
// gateway gets to know of the environment that its task was made in.
func TestUnsettledInANewEnvironment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.caller.get("/environment")
		w.Restart(time.Second)
		time.Sleep(5 * time.Second) // nobody asks which environment it is now
		id := w.caller.submit(longNap)
		w.Inject(sim.When(put(), sim.First(1, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.Network().Set(memnet.Kill)
			return sim.Late(150*time.Second, sim.Reset)(x, next)
		})))
		if a := w.caller.start(id); verdict(a) != "unknown" {
			t.Fatalf("%v (%s)", a, verdict(a))
		}
		w.Network().Set(memnet.Healthy)
		w.caller.get("/environment")
		a := w.caller.start(id)
		if n := w.asked("PUT", "/worker/task"); n != 1 || verdict(a) != "withdrawn" {
			t.Errorf("again: %v (%s); %d requests", a, verdict(a), n)
		}
	})
}

// TestStartOfAHiddenTask: that a task is not there does not make a request to start it
// harmless, if it was a proxy that said so.
func TestStartOfAHiddenTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		id := w.caller.submit(longNap)
		w.Inject(sim.When(sim.Request("GET", "/tasks/"+id), sim.First(1, func(*sim.Exchange, func() sim.Answer) sim.Answer {
			return sim.Answer{Status: 404, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"error":"no route"}`)}
		})))
		w.Inject(sim.When(put(), sim.First(1, sim.Late(20*time.Second, sim.Reset))))
		if a := w.caller.start(id); verdict(a) != "unknown" {
			t.Errorf("%v (%s)", a, verdict(a))
		}
		if a := w.caller.start(id); verdict(a) != "withdrawn" {
			t.Errorf("again: %v (%s)", a, verdict(a))
		}
		time.Sleep(time.Minute)
		if n := w.asked("PUT", "/worker/task"); n != 1 || len(w.Runs()) != 0 {
			t.Errorf("%d requests, %d runs", n, len(w.Runs()))
		}
	})
}

// TestForgottenWithItsEnvironment: what is known of a task says nothing when the
// environment that it was made in is gone.
func TestForgottenWithItsEnvironment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		id := w.caller.submit(longNap)
		w.Inject(sim.When(put(), sim.First(1, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.Network().Set(memnet.Kill)
			return sim.LoseRequest(sim.Reset)(x, next)
		})))
		w.caller.start(id)
		w.Network().Set(memnet.Healthy)
		w.caller.get("/environment")
		if s := w.gateway.Status(); len(s.Unsettled) != 1 {
			t.Errorf("%+v", s)
		}
		w.Restart(time.Second)
		time.Sleep(5 * time.Second)
		w.caller.get("/environment")
		if s := w.gateway.Status(); len(s.Unsettled) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestStartOfTheTaskOfASession: who asks for the task of a session to be started, while
// that is being done, has no second request sent when nobody knows what became of the
// first.
func TestStartOfTheTaskOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		var other sync.WaitGroup
		var again answer
		w.Inject(sim.When(put(), sim.First(1, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
			var asked struct {
				ID string `json:"task_id"`
			}
			if err := json.Unmarshal(x.Body, &asked); err != nil {
				t.Error(err)
			}
			other.Go(func() { again = w.caller.start(asked.ID) })
			time.AfterFunc(500*time.Millisecond, func() { w.Network().Set(memnet.Kill) })
			time.AfterFunc(70*time.Second, func() { w.Network().Set(memnet.Healthy) })
			return sim.Late(2*time.Minute, sim.Silence)(x, next)
		})))
		if told := w.caller.runPlan(longNap); told.code != 1011 {
			t.Errorf("%+v", told)
		}
		w.Network().Set(memnet.Healthy)
		other.Wait()
		time.Sleep(5 * time.Minute)
		if n := w.asked("PUT", "/worker/task"); n != 1 || len(w.Runs()) != 0 || verdict(again) != "withdrawn" {
			t.Errorf("%v (%s): %d requests, %d runs", again, verdict(again), n, len(w.Runs()))
		}
	})
}

// TestStartBehindOneThatIsOff: who asks for a task whose start was taken back, and has not
// come to its end yet, is not told that it was.
func TestStartBehindOneThatIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent, until := "", time.Now().Add(5*time.Second)
		w := newWorld(t, func(w *world) {
			w.gateway.StartOf = func(_ context.Context, id string) (*gateway.EarlierStart, error) {
				if id != sent || time.Now().After(until) {
					return nil, nil
				}
				return &gateway.EarlierStart{Attachment: blueapi.Attachment{TaskID: id}}, nil // a living gateway has it
			}
		})
		sent = w.caller.submit(nap)
		other := w.caller.submit(longNap)
		w.Inject(sim.When(put(), sim.First(1, sim.Stall(4*time.Second)))) // it has the turn
		time.AfterFunc(1050*time.Millisecond, func() { w.caller.start(other) })
		ctx, cancel := context.WithTimeout(t.Context(), 1100*time.Millisecond)
		defer cancel()
		w.caller.ask(ctx, "PUT", "/worker/task", `{"task_id":"`+sent+`"}`)
		if a := w.caller.start(sent); a.status != http.StatusConflict || verdict(a) != "" {
			t.Errorf("%v (%s) after %v", a, verdict(a), a.took)
		}
	})
}

// TestStartOfAnotherGateway: what another gateway has sent is settled, and not sent again:
// after it has had the time to do that itself, if it lives. Other starts do not wait for it.
func TestStartOfAnotherGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent blueapi.Attachment
		var died time.Time
		w := newWorld(t, func(w *world) {
			w.gateway.StartOf = func(_ context.Context, id string) (*gateway.EarlierStart, error) {
				if id != sent.TaskID {
					return nil, nil
				}
				sent.Owned = !time.Now().Before(died)
				return &gateway.EarlierStart{Attachment: sent, Release: func() {}}, nil
			}
		})
		id := w.caller.submit(longNap)
		sent = blueapi.Attachment{RunID: "r", TaskID: id, Step: blueapi.StepStarting, At: time.Now()}
		died = time.Now().Add(20 * time.Second)
		other := w.caller.submit(nap)
		time.AfterFunc(5*time.Second, func() {
			if a := w.caller.start(other); a.status != http.StatusOK || a.took > time.Second {
				t.Errorf("another task meanwhile: %v after %v", a, a.took)
			}
		})
		a := w.caller.start(id)
		n := 0
		for _, x := range w.Exchanges() {
			if x.Method == http.MethodPut && strings.Contains(string(x.Body), id) {
				n++
			}
		}
		if n != 0 || verdict(a) != "withdrawn" || time.Now().Before(died) {
			t.Errorf("%v (%s) at %v; %d requests", a, verdict(a), time.Since(died), n)
		}
		if a := w.caller.start(w.caller.submit(nap)); a.status != http.StatusOK {
			t.Errorf("another task: %v", a)
		}
	})
}
