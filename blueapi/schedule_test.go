package blueapi_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

// mishap is something that goes wrong, or that somebody else does, in a schedule.
type mishap struct {
	name   string
	happen func(t *testing.T, w *world)
}

// schedule is one run and what befalls it.
type schedule struct {
	plan    blueapi.TaskRequest
	wait    time.Duration
	cancel  time.Duration // 0 is never
	mishaps []mishap
}

func (s schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s wait %v cancel %v:", s.plan.Name, s.plan.Params, s.wait, s.cancel)
	for _, m := range s.mishaps {
		b.WriteString(" [" + m.name + "]")
	}
	return b.String()
}

func (s schedule) has(text string) bool {
	return slices.ContainsFunc(s.mishaps, func(m mishap) bool { return strings.Contains(m.name, text) })
}

// ourPlans can be told from those of the other client by their parameters.
func ourPlans() []blueapi.TaskRequest {
	return []blueapi.TaskRequest{
		request("nap", `{"seconds":0.51}`), request("nap", `{"seconds":7.01}`), request("slow_start", `{"seconds":6.01}`),
		request("slow_start", `{"seconds":2.01}`), request("returns", `{"value":"ours"}`), request("fail", `{"message":"ours"}`),
	}
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// between is a time, short ones being as likely as long ones.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	d := low
	for d < high && rng.IntN(4) != 0 {
		d *= 2
	}
	return min(d+time.Duration(rng.Int64N(int64(d))), high).Round(time.Millisecond)
}

func newSchedule(seed uint64) schedule {
	rng := rand.New(rand.NewPCG(seed, 5))
	s := schedule{plan: pick(rng, ourPlans())}
	if rng.IntN(6) == 0 {
		s.wait = between(rng, time.Second, 2*time.Minute)
	}
	if rng.IntN(5) == 0 {
		s.cancel = between(rng, time.Millisecond, time.Minute)
	}
	for range 1 + rng.IntN(4) {
		switch rng.IntN(9) {
		case 0:
			s.mishaps = append(s.mishaps, timed(rng))
		case 1:
			s.mishaps = append(s.mishaps, somebody(rng))
		default:
			s.mishaps = append(s.mishaps, atRequest(rng))
		}
	}
	return s
}

// atRequest is a fault at one request, or at all of a kind.
func atRequest(rng *rand.Rand) mishap {
	paths := [][2]string{
		{"PUT", "/worker/task"},
		{"PUT", "/worker/task"},
		{"PUT", "/worker/task"},
		{"DELETE", "/tasks/*"},
		{"DELETE", "/tasks/*"},
		{"POST", "/tasks"},
		{"GET", "/tasks/*"},
		{"GET", "/environment"},
		{"GET", "/worker/task"},
		{"GET", "/worker/state"},
		{"*", "/*/*"},
		{"*", "/*"},
	}
	p := pick(rng, paths)
	what := p[0] + " " + p[1]
	name, f := fault(rng)
	k := 1 + rng.IntN(3)
	if strings.HasPrefix(p[0], "*") {
		k = 1 + rng.IntN(20)
	}
	switch rng.IntN(5) {
	case 0:
		return mishap{fmt.Sprintf("%s first %d: %s", what, k, name), func(_ *testing.T, w *world) {
			w.Inject(sim.When(sim.Request(p[0], p[1]), sim.First(k, f(w))))
		}}
	default:
		return mishap{fmt.Sprintf("%s no. %d: %s", what, k, name), func(_ *testing.T, w *world) {
			w.Inject(sim.When(sim.Request(p[0], p[1]), sim.Nth(k, f(w))))
		}}
	}
}

func fault(rng *rand.Rand) (string, func(*world) sim.Fault) {
	plain := func(f sim.Fault) func(*world) sim.Fault { return func(*world) sim.Fault { return f } }
	end := pick(rng, []sim.End{sim.Reset, sim.Close, sim.Silence})
	code := pick(rng, []int{502, 503, 504, 429, 302})
	n := rng.IntN(300) - 20
	d := between(rng, 10*time.Millisecond, 70*time.Second)
	short := between(rng, 10*time.Millisecond, 12*time.Second)
	switch rng.IntN(11) {
	case 0:
		return fmt.Sprint("request lost, ", end), plain(sim.LoseRequest(end))
	case 1:
		return fmt.Sprint("answer lost, ", end), plain(sim.LoseAnswer(end))
	case 2:
		return fmt.Sprintf("answer cut after %d, %v", n, end), plain(sim.CutAnswer(n, end))
	case 3:
		return fmt.Sprint("status ", code), plain(sim.Status(code))
	case 4:
		return fmt.Sprint("done, but status ", code), plain(sim.Instead(sim.Status(code)))
	case 5:
		return fmt.Sprintf("late by %v, %v", d, end), plain(sim.Late(d, end))
	case 6:
		return fmt.Sprint("twice, ", short, " apart"), plain(sim.Twice(short))
	case 7:
		return fmt.Sprint("delayed by ", d), plain(sim.Delay(d))
	case 8:
		return fmt.Sprint("stalled for ", short), plain(sim.Stall(short))
	case 9:
		first := rng.IntN(2) == 0
		return fmt.Sprintf("restart of %v, processed %v", short, first), func(w *world) sim.Fault {
			return func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				if first {
					next()
				}
				w.Restart(short)
				return sim.Answer{End: sim.Reset}
			}
		}
	default:
		first := rng.IntN(2) == 0
		return fmt.Sprintf("reload, processed %v", first), func(w *world) sim.Fault {
			return func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
				if first {
					defer w.Reload()
					return next()
				}
				w.Reload()
				return next()
			}
		}
	}
}

// timed is an outage of the network or of the server, at some moment.
func timed(rng *rand.Rand) mishap {
	at, long := between(rng, time.Millisecond, 20*time.Second), between(rng, 100*time.Millisecond, 90*time.Second)
	o := pick(rng, append(outages()[:7],
		outage{"restart", func(w *world) { w.Restart(long) }, func(*world) {}},
		outage{"reload", func(w *world) { w.Reload() }, func(*world) {}},
	))
	return mishap{fmt.Sprintf("%s from %v for %v", o.name, at, long), func(_ *testing.T, w *world) {
		time.AfterFunc(at, func() { o.begin(w) })
		time.AfterFunc(at+long, func() { o.end(w) })
	}}
}

// somebody else does something.
func somebody(rng *rand.Rand) mishap {
	at := between(rng, time.Millisecond, 20*time.Second)
	if rng.IntN(3) == 0 {
		return mishap{fmt.Sprint("somebody deletes all tasks at ", at), func(t *testing.T, w *world) {
			c := w.newClient(t)
			w.atEase(t, at, func(ctx context.Context) {
				tasks, _ := c.Tasks(ctx, "")
				for _, task := range tasks {
					_ = c.DeleteTask(ctx, task.ID)
				}
			})
		}}
	}
	other := pick(rng, []blueapi.TaskRequest{request("nap", `{"seconds":0.3}`), request("nap", `{"seconds":30}`)})
	return mishap{fmt.Sprintf("somebody runs %s at %v", other.Params, at), func(t *testing.T, w *world) {
		c := w.newClient(t)
		w.atEase(t, at, func(ctx context.Context) { _, _ = c.Run(ctx, other) })
	}}
}

// atEase does something later, in the bubble, and sees that it ends.
func (w *world) atEase(t *testing.T, at time.Duration, f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		time.Sleep(at)
		f(ctx)
	}()
}

// play plays a schedule and returns the word, and what is wrong with it.
func (s schedule) play(t *testing.T) (word blueapi.Word, wrong string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Network().Latency = time.Millisecond
		w.client.Wait = s.wait
		for _, m := range s.mishaps {
			m.happen(t, w)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if s.cancel > 0 {
			defer time.AfterFunc(s.cancel, cancel).Stop()
		}
		start := time.Now()
		result, err := w.client.Run(ctx, s.plan)
		took := time.Since(start)
		now := ours(w, s.plan)
		time.Sleep(10 * time.Minute)
		w.Heal()
		w.Unfreeze()
		w.Network().Set(memnet.Healthy)
		time.Sleep(10 * time.Minute)
		later := ours(w, s.plan)
		word = result.Word
		wrong = s.judge(result, err, now, later)
		if took > 20*time.Minute {
			wrong += fmt.Sprintf(" took %v", took)
		}
		if s.cancel > 0 && took > s.cancel {
			wrong += fmt.Sprintf(" ended %v after it was cancelled", took-s.cancel)
		}
	})
	return word, wrong
}

func ours(w *world, plan blueapi.TaskRequest) []sim.Run {
	return slices.DeleteFunc(w.Runs(), func(r sim.Run) bool {
		return r.Plan != plan.Name || string(r.Params) != string(plan.Params)
	})
}

func (s schedule) judge(result blueapi.Result, err error, now, later []sim.Run) (wrong string) {
	labelled := s.has("PUT") && s.has("twice") || s.has("* /") && s.has("twice") // TestDuplicatedByAProxy
	if len(later) > 1 && !labelled {
		wrong += fmt.Sprintf(" %d runs", len(later))
	}
	switch result.Word {
	case blueapi.Done:
		n := 0
		for _, r := range now {
			if r.TaskID == result.TaskID && !r.Ended.IsZero() && !r.Killed {
				n++
			}
		}
		if err != nil || n != 1 && !labelled {
			wrong += fmt.Sprintf(" done, but %d runs of it: %v", n, err)
		}
	case blueapi.NotStarted:
		if len(later) != 0 {
			wrong += fmt.Sprintf(" not started, but %d runs", len(later))
		}
	case blueapi.Unknown:
	default:
		wrong += " no word"
	}
	if blueapi.WordOf(err) != result.Word {
		wrong += fmt.Sprintf(" word %v, error %v", result.Word, err)
	}
	if wrong != "" {
		wrong += fmt.Sprintf(" (reason %d, %v)", result.Reason, err)
	}
	return wrong
}

// TestPromise5Schedules plays random schedules of up to four mishaps.
func TestPromise5Schedules(t *testing.T) {
	n := uint64(1500)
	if everything() {
		n = 30000
	}
	words := map[blueapi.Word]int{}
	for seed := range n {
		s := newSchedule(seed)
		word, wrong := s.play(t)
		words[word]++
		if wrong != "" {
			t.Errorf("seed %d: %v:%s", seed, s, wrong)
			shrink(t, s)
		}
	}
	t.Logf("%d schedules: %v", n, words)
}

// shrink says which mishaps it takes.
func shrink(t *testing.T, s schedule) {
	t.Helper()
	fails := func(s schedule) bool {
		for range 4 {
			if _, wrong := s.play(t); wrong != "" {
				return true
			}
		}
		return false
	}
	for i := 0; i < len(s.mishaps); i++ {
		less := s
		less.mishaps = slices.Delete(slices.Clone(s.mishaps), i, i+1)
		if fails(less) {
			s, i = less, -1
		}
	}
	for _, less := range []schedule{{s.plan, 0, s.cancel, s.mishaps}, {s.plan, s.wait, 0, s.mishaps}} {
		if fails(less) {
			s = less
		}
	}
	t.Errorf("  shrunk: %v", s)
}
