package blueapi_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

// How often something happens in a bad night, on average.
const (
	nightOutage  = 2 * time.Minute  // of any kind, for 0.1 to 5 s
	nightMessage = 30 * time.Second // one message is lost, late, or sent twice
	nightBroker  = 20 * time.Minute // the broker is restarted, in 1 to 10 s
	nightServer  = 2 * time.Hour    // the server is restarted, in 1 to 5 s
)

// night is a server and its network, in bad weather.
type night struct {
	*world
	rng   *rand.Rand // of the weather
	plans *rand.Rand
	// status is what a proxy answers at the moment, instead of the server; 0 is nothing.
	status atomic.Int64
	// next is what befalls the next request.
	next  atomic.Pointer[sim.Fault]
	count map[string]int
}

// weather makes it, until it is stopped.
func (n *night) weather(stop <-chan struct{}) {
	n.Inject(func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		if f := n.next.Swap(nil); f != nil {
			return (*f)(x, next)
		}
		if code := int(n.status.Load()); code != 0 {
			return sim.Status(code)(x, next)
		}
		return next()
	})
	wait := func(d time.Duration) bool {
		select {
		case <-time.After(d):
			return true
		case <-stop:
			return false
		}
	}
	every := map[time.Duration]func(){
		nightOutage: n.outage, nightMessage: n.message, nightBroker: n.broker,
		nightServer: func() { n.did("server restarted"); n.Restart(n.between(time.Second, 5*time.Second)) },
	}
	next := map[time.Duration]time.Time{}
	for d := range every {
		next[d] = time.Now().Add(n.exp(d))
	}
	for {
		var first time.Duration
		for d, at := range next {
			if first == 0 || at.Before(next[first]) {
				first = d
			}
		}
		if !wait(time.Until(next[first])) {
			return
		}
		every[first]()
		next[first] = time.Now().Add(n.exp(first))
	}
}

// exp is a time until something happens that does so once in d on average.
func (n *night) exp(d time.Duration) time.Duration {
	return time.Duration(n.rng.ExpFloat64() * float64(d))
}

func (n *night) between(a, b time.Duration) time.Duration {
	return a + time.Duration(n.rng.Int64N(int64(b-a)))
}

func (n *night) did(what string) { n.count[what]++ }

// outage makes the service unavailable for a while, and waits for the end of that.
func (n *night) outage() {
	d := n.between(100*time.Millisecond, 5*time.Second)
	n.did("outages")
	switch k := n.rng.IntN(10); k {
	case 0, 1, 2, 3, 4, 5:
		f := []memnet.Fault{memnet.Refuse, memnet.Kill, memnet.Reset, memnet.BlackHole, memnet.Forget, memnet.Stall}[k]
		n.Network().Set(f)
		time.Sleep(d)
		n.Network().Set(memnet.Healthy)
	case 6:
		n.Freeze()
		time.Sleep(d)
		n.Unfreeze()
	default:
		n.status.Store(int64(502 + k - 7))
		time.Sleep(d)
		n.status.Store(0)
	}
}

// message has a fault befall the next request.
func (n *night) message() {
	end := pick(n.rng, []sim.End{sim.Reset, sim.Close, sim.Silence})
	f := pick(n.rng, []sim.Fault{
		sim.LoseRequest(end), sim.LoseAnswer(end), sim.CutAnswer(-3, sim.Close), sim.Late(n.between(time.Second, time.Minute), end),
		sim.Delay(n.between(time.Second, 12*time.Second)), sim.Instead(sim.Status(504)),
	})
	n.did("messages")
	n.next.Store(&f)
}

func (n *night) broker() {
	n.did("broker restarted")
	n.StopBroker()
	time.Sleep(n.between(time.Second, 10*time.Second))
	n.StartBroker()
}

// plan is the i-th, which can be told from all others by its parameters.
func (n *night) plan(i int) blueapi.TaskRequest {
	id := float64(i) / 1e6
	switch n.plans.IntN(7) {
	case 0:
		return request("fail", fmt.Sprintf(`{"message":"plan %d","seconds":%v}`, i, n.plans.IntN(5)))
	case 1:
		return request("returns", fmt.Sprintf(`{"value":%d}`, i))
	case 2:
		return request("many_events", fmt.Sprintf(`{"n":%d,"delay":%v}`, 1+n.plans.IntN(50), 0.2+id))
	case 3:
		return request("moves", fmt.Sprintf(`{"x":%v,"y":%v}`, 1+id, float64(1+n.plans.IntN(3))))
	case 4:
		return request("slow_start", fmt.Sprintf(`{"seconds":%v}`, float64(n.plans.IntN(9))+id))
	default:
		return request("nap", fmt.Sprintf(`{"seconds":%v}`, float64(n.plans.IntN(40))+0.5+id))
	}
}

// TestNight runs plans one after another, for hours, while the network, the server and
// the broker fail now and then: none runs twice, and every word is true.
func TestNight(t *testing.T) {
	long, runs := time.Hour, 80
	if everything() {
		long, runs = 12*time.Hour, 1000
	}
	synctest.Test(t, func(t *testing.T) {
		n := &night{world: newWorld(t), rng: rand.New(rand.NewPCG(12, 1)), plans: rand.New(rand.NewPCG(12, 2)), count: map[string]int{}}
		n.follow(n.client)
		n.client.RunTrace.Event = nil // there are many
		stop, calm := make(chan struct{}), make(chan struct{})
		go func() { defer close(calm); n.weather(stop) }()

		type said struct {
			plan   blueapi.TaskRequest
			result blueapi.Result
		}
		var all []said
		words, reasons := map[blueapi.Word]int{}, map[blueapi.Reason]int{}
		begin, most, least := time.Now(), 0, 1<<30
		for i := range runs {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * long / time.Duration(runs))))
			plan := n.plan(i)
			result, err := n.client.Run(t.Context(), plan)
			words[result.Word]++
			reasons[result.Reason]++
			if blueapi.WordOf(err) != result.Word {
				t.Errorf("run %d: %+v, %v", i, result, err)
			}
			if o := result.Outcome; o != nil && (o.Kind == "success") == (plan.Name == "fail") {
				t.Errorf("run %d, %s: outcome %+v", i, plan.Name, o)
			}
			if result.Word == blueapi.Done {
				for _, r := range ours(n.world, plan) {
					if r.Ended.IsZero() || r.TaskID != result.TaskID {
						t.Errorf("run %d: done, but %+v", i, r)
					}
				}
			}
			all = append(all, said{plan, result})
			if i > runs/10 {
				most, least = max(most, runtime.NumGoroutine()), min(least, runtime.NumGoroutine())
			}
		}
		took := time.Since(begin)
		close(stop)
		<-calm
		time.Sleep(10 * time.Minute) // whatever was late has come

		for i, s := range all {
			ran := ours(n.world, s.plan)
			switch {
			case len(ran) > 1:
				t.Errorf("run %d, %s %s: ran %d times", i, s.plan.Name, s.plan.Params, len(ran))
			case s.result.Word == blueapi.NotStarted && len(ran) != 0:
				t.Errorf("run %d: not started, but %+v", i, ran)
			case s.result.Word == blueapi.Done && len(ran) != 1 && s.result.Reason != blueapi.Unpublished:
				t.Errorf("run %d: done, but it never ran", i)
			}
		}
		if most-least > 60 {
			t.Errorf("between %d and %d goroutines", least, most)
		}
		t.Logf("%d runs in %v: %v, reasons %v; %v; between %d and %d goroutines", runs, took.Round(time.Second), words, reasons, n.count, least, most)
	})
}
