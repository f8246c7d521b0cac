package blueapi_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/stomp"
)

// sweepFault is a kind of fault. It can be at requests, or at frames.
type sweepFault struct {
	name    string
	request func(*sweepWorld) sim.Fault
	frame   func(*sweepWorld) stomp.Fault
}

// requestFaults are all that can befall a request or its answer.
func requestFaults() []*sweepFault {
	var all []*sweepFault
	add := func(name string, f func(*sweepWorld) sim.Fault) {
		all = append(all, &sweepFault{name: name, request: f})
	}
	plain := func(name string, f sim.Fault) { add(name, func(*sweepWorld) sim.Fault { return f }) }

	plain("lost, reset", sim.LoseRequest(sim.Reset))
	plain("lost, silence", sim.LoseRequest(sim.Silence))
	plain("answer lost, reset", sim.LoseAnswer(sim.Reset))
	plain("answer lost, silence", sim.LoseAnswer(sim.Silence))
	plain("answer cut", sim.CutAnswer(-3, sim.Close))
	for _, d := range []time.Duration{time.Second, 2500 * time.Millisecond, 7 * time.Second, 20 * time.Second, 5 * time.Minute} {
		plain(fmt.Sprint("late by ", d), sim.Late(d, sim.Reset))
	}
	plain("late by 7s, silence", sim.Late(7*time.Second, sim.Silence))
	plain("twice, 0.1 s apart", sim.Twice(100*time.Millisecond))
	plain("twice, 1 s apart", sim.Twice(time.Second))
	plain("delayed by 2.5 s", sim.Delay(2500*time.Millisecond))
	plain("delayed by 12 s", sim.Delay(12*time.Second))
	plain("502", sim.Status(502))
	plain("503", sim.Status(503))
	plain("504, done", sim.Instead(sim.Status(504)))
	plain("text 500", answer(500, "Internal Server Error"))
	plain("text 500, done", sim.Instead(answer(500, "Internal Server Error")))
	for _, d := range []time.Duration{time.Second, 2500 * time.Millisecond, 10 * time.Second} {
		plain(fmt.Sprint("frozen for ", d), sim.Stall(d))
	}
	add("restart", func(w *sweepWorld) sim.Fault {
		return func(*sim.Exchange, func() sim.Answer) sim.Answer {
			w.Restart(time.Second)
			return sim.Answer{End: sim.Reset}
		}
	})
	add("restart, done", func(w *sweepWorld) sim.Fault {
		return func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			next()
			w.Restart(time.Second)
			return sim.Answer{End: sim.Reset}
		}
	})
	add("reload", func(w *sweepWorld) sim.Fault {
		return func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.Reload()
			return next()
		}
	})
	add("reload, done", func(w *sweepWorld) sim.Fault {
		return func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			defer w.Reload()
			return next()
		}
	})
	return all
}

// brokerFaults are those of the broker itself, at the moment of a request.
func brokerFaults() []*sweepFault {
	stopped := func(d time.Duration) func(w *sweepWorld) {
		return func(w *sweepWorld) {
			w.StopBroker()
			if d > 0 {
				time.AfterFunc(d, w.StartBroker)
			}
		}
	}
	var all []*sweepFault
	add := func(name string, f func(*sweepWorld)) {
		all = append(all, &sweepFault{name: name, request: beforehand(f), frame: func(w *sweepWorld) stomp.Fault {
			return func(p *stomp.Passage, next func(*stomp.Frame)) { f(w); next(p.Frame) }
		}})
	}
	add("broker restarted in 1 s", stopped(time.Second))
	add("broker restarted in 15 s", stopped(15*time.Second))
	add("broker stopped", stopped(0))
	return all
}

// frameFaults are what can befall a frame.
func frameFaults() []*sweepFault {
	var all []*sweepFault
	add := func(name string, f func(*sweepWorld) stomp.Fault) {
		all = append(all, &sweepFault{name: name, frame: f})
	}
	plain := func(name string, f stomp.Fault) { add(name, func(*sweepWorld) stomp.Fault { return f }) }
	add("dropped", func(w *sweepWorld) stomp.Fault {
		return func(p *stomp.Passage, _ func(*stomp.Frame)) { w.lose(p) }
	})
	plain("twice", stomp.Twice)
	plain("delayed by 1 s", stomp.Delay(time.Second))
	plain("delayed by 5 s", stomp.Delay(5*time.Second))
	plain("delayed by 20 s", stomp.Delay(20*time.Second))
	plain("cut", stomp.Cut(0))
	plain("cut in its midst", stomp.Cut(20))
	plain("refused", func(p *stomp.Passage, next func(*stomp.Frame)) {
		if p.Sent {
			next(p.Frame)
		}
		stomp.Refuse("refused", "as a broker does that shuts down")(p, next)
	})
	return all
}

// lose notes that a MESSAGE was lost.
func (w *sweepWorld) lose(p *stomp.Passage) {
	if p.Frame == nil || p.Frame.Command != "MESSAGE" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost[string(p.Frame.Body)]++
}

// others are what another client does just before a request is dealt with, meanwhile, or
// just after.
func others() []*sweepFault {
	var all []*sweepFault
	start := func(plan string) func(*sweepWorld) {
		return func(w *sweepWorld) {
			id := w.act("POST", "/tasks", `{`+plan+`,"instrument_session":"cm12345-1"}`)
			w.act("PUT", "/worker/task", `{"task_id":"`+id+`"}`)
		}
	}
	state := func(s string) func(*sweepWorld) {
		return func(w *sweepWorld) { w.act("PUT", "/worker/state", `{"new_state":"`+s+`"}`) }
	}
	for name, f := range map[string]func(*sweepWorld){
		"starts a plan":      start(`"name":"nap","params":{"seconds":1.5}`),
		"starts a slow plan": start(`"name":"slow_start","params":{"seconds":7.5}`),
		"deletes all tasks":  (*sweepWorld).clear,
		"aborts":             state("ABORTING"),
		"pauses and resumes": func(w *sweepWorld) {
			state("PAUSED")(w)
			w.background.Go(func() { time.Sleep(1500 * time.Millisecond); state("RUNNING")(w) })
		},
	} {
		for when, fault := range map[string]func(func(*sweepWorld)) func(*sweepWorld) sim.Fault{
			"before": beforehand, "meanwhile": atTheSameTime, "after": afterwards,
		} {
			all = append(all, &sweepFault{name: "another client " + name + ", " + when, request: fault(f)})
		}
	}
	slices.SortFunc(all, func(a, b *sweepFault) int { return strings.Compare(a.name, b.name) })
	return all
}

// beforehand has something happen before a request is dealt with.
func beforehand(f func(*sweepWorld)) func(*sweepWorld) sim.Fault {
	return func(w *sweepWorld) sim.Fault {
		return func(_ *sim.Exchange, next func() sim.Answer) sim.Answer { f(w); return next() }
	}
}

// atTheSameTime has something happen while a request is dealt with.
func atTheSameTime(f func(*sweepWorld)) func(*sweepWorld) sim.Fault {
	return func(w *sweepWorld) sim.Fault {
		return func(_ *sim.Exchange, next func() sim.Answer) sim.Answer {
			w.background.Go(func() { f(w) })
			return next()
		}
	}
}

// afterwards has something happen when a request was dealt with, and not answered yet.
func afterwards(f func(*sweepWorld)) func(*sweepWorld) sim.Fault {
	return func(w *sweepWorld) sim.Fault {
		return func(_ *sim.Exchange, next func() sim.Answer) sim.Answer { defer f(w); return next() }
	}
}
