//go:build linux && realserver

package realserver

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// TestPromise1CommandsFrozen stops the server's processes at every request of the
// commands that control: they succeed, and have their effect.
func TestPromise1CommandsFrozen(t *testing.T) {
	s := theServer(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	type frozenCell struct {
		command short
		moment  moment
		long    time.Duration
	}
	var all []frozenCell
	for _, c := range shorts() {
		if len(c.moments) <= 2 {
			continue // it reads
		}
		for _, m := range c.moments {
			for _, d := range []time.Duration{time.Second, 2500 * time.Millisecond} {
				if m.at.Request > 0 && !m.at.Answered {
					all = append(all, frozenCell{c, m, d})
				}
			}
		}
	}
	if every, n, rng := choice(t); !every {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:min(n/5, len(all))]
	}
	var rows []string
	for _, f := range all {
		t.Run(strings.ReplaceAll(fmt.Sprintf("%s/%s/%v", f.command.words, f.moment.name, f.long), " ", "-"), func(t *testing.T) {
			now := s.set(t, f.command.scene)
			p, err := faultproxy.Listen(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			for range f.moment.at.Request - 1 {
				p.Before("", "", func() {})
			}
			thawed := make(chan (<-chan struct{}), 1)
			p.Before(f.moment.at.Method, f.moment.at.Path, func() {
				ch, err := s.Freeze(f.long)
				if err != nil {
					t.Error(err)
				}
				thawed <- ch
			})
			e := execute(t, 2*time.Minute, f.command.args(s, bin, p.URL(), now))
			select {
			case ch := <-thawed:
				<-ch
			default:
				t.Error("no such moment")
			}
			wrong := f.command.holds(t, s, now, e)
			words := fmt.Sprintf("ok, %.1f s", e.took.Seconds())
			if wrong != "" || e.exit != 0 {
				t.Errorf("%s\n%v\nrequests: %s", wrong, e, describe(p))
				words = fmt.Sprintf("**exit %d %s, %.1f s**", e.exit, wrong, e.took.Seconds())
			}
			rows = append(rows, fmt.Sprintf("| %s | frozen %v | %s | %s |", f.command.words, f.long, f.moment.name, words))
		})
	}
	s.clear(t)
	fmt.Fprintf(os.Stdout, "\n%s\n\n", strings.Join(rows, "\n"))
}

// TestControlTwice has a proxy send the request of a control command twice, as an
// ingress may: its second answer is a refusal, and the command succeeds.
func TestControlTwice(t *testing.T) {
	s := theServer(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	every, _, _ := choice(t)
	for _, c := range shorts() {
		if len(c.moments) <= 2 || strings.HasPrefix(c.words, "controller") || !every && c.scene == idle {
			continue
		}
		t.Run(strings.ReplaceAll(c.words, " ", "-"), func(t *testing.T) {
			now := s.set(t, c.scene)
			p, err := faultproxy.Listen(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			method, path := http.MethodPut, "/worker/state"
			if c.scene == idle {
				method, path = http.MethodDelete, "/environment"
			}
			p.Repeat(method, path)
			e := execute(t, time.Minute, c.args(s, bin, p.URL(), now))
			if wrong := c.holds(t, s, now, e); wrong != "" || e.exit != 0 {
				t.Errorf("%s\n%v\nrequests: %s", wrong, e, describe(p))
			}
		})
	}
	s.clear(t)
}

// TestControlAfterAnother has another client do something to the plan between the
// guard and the request of a command: what is said is true.
func TestControlAfterAnother(t *testing.T) {
	s := theServer(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	type meeting struct{ verb, theirs string }
	var all []meeting
	for _, verb := range []string{"pause", "abort", "stop"} {
		for _, theirs := range []string{"PAUSED", "ABORTING", "STOPPING"} {
			all = append(all, meeting{verb, theirs})
		}
	}
	for _, theirs := range []string{"RUNNING", "ABORTING", "STOPPING"} {
		all = append(all, meeting{"resume -y", theirs})
	}
	if every, n, rng := choice(t); !every {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:min(n/5, len(all))]
	}
	for _, m := range all {
		t.Run(strings.ReplaceAll(m.verb+"/"+m.theirs, " ", "-"), func(t *testing.T) {
			c := short{words: m.verb + " --task TASK", scene: running}
			if m.verb == "resume -y" {
				c.scene = paused
			}
			now := s.set(t, c.scene)
			p, err := faultproxy.Listen(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			p.Before(http.MethodPut, "/worker/state", func() { s.put(t, m.theirs) })
			e := execute(t, time.Minute, c.args(s, bin, p.URL(), now))
			if strings.Contains(e.stderr, "by itself") || e.exit > 1 {
				t.Errorf("it was not so: the worker is %s, and the plan was interrupted: %v\n%v\nrequests: %s",
					s.state(t), s.record(t, now.task).interrupted(), e, describe(p))
			}
			t.Log(e)
		})
	}
	s.clear(t)
}

// TestControlAfterAnotherPlan has another client end the plan between the guard and the
// request of a command, and start the next: that one is not hit without a word.
func TestControlAfterAnotherPlan(t *testing.T) {
	s := theServer(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"abort", "stop", "pause"} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/lost=%v", verb, lost), func(t *testing.T) {
				now := s.set(t, running)
				p, err := faultproxy.Listen(s.URL)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				started := make(chan string, 1)
				theirs := func() {
					s.put(t, "ABORTING")
					s.reaches(t, "IDLE")
					started <- s.begin(t, plan{"nap", map[string]any{"seconds": 30}})
				}
				if lost {
					p.BeforeLosing(http.MethodPut, "/worker/state", theirs)
				} else {
					p.Before(http.MethodPut, "/worker/state", theirs)
				}
				e := execute(t, time.Minute, short{words: verb + " --task TASK -o json"}.args(s, bin, p.URL(), now))
				next := <-started
				hit := s.record(t, next).interrupted()
				if r := saidBy(t, e); hit && r.Other != next || !hit && r.Other == next && r.Unanswered == 0 {
					t.Errorf("the next plan (%s) was hit: %v\n%v\nrequests: %s", next, hit, e, describe(p))
				}
			})
		}
	}
	s.clear(t)
}

// TestControlRestart kills the server between the guard and the request of a command,
// and starts it again: it says what it does not know, and asks nothing of a plan that
// runs then.
func TestControlRestart(t *testing.T) {
	s := theServer(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	every, _, _ := choice(t)
	verbs := []string{"abort", "stop", "pause"}
	if !every {
		verbs = verbs[:1]
	}
	// killing runs a command, and kills the server before it gets the command's
	// request, and does more.
	killing := func(t *testing.T, more func(), words string) (e ended, p *faultproxy.Proxy) {
		now := s.set(t, running)
		p, err := faultproxy.Listen(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		p.Before(http.MethodPut, "/worker/state", func() {
			if err := s.Kill(); err != nil {
				t.Error(err)
			}
			more()
		})
		return execute(t, 2*time.Minute, short{words: words + " --task TASK -o json"}.args(s, bin, p.URL(), now)), p
	}
	var next string
	var begun time.Time
	again := func(t *testing.T) { // and another client is quick to start a plan
		if err := s.Again(); err != nil {
			t.Error(err)
			return
		}
		next = s.begin(t, plan{"nap", map[string]any{"seconds": 30}})
		begun = time.Now()
	}
	for _, verb := range verbs {
		t.Run(verb+"/away", func(t *testing.T) {
			if !every {
				t.Skip("it takes half a minute: OUTAGES=all")
			}
			e, p := killing(t, func() {}, verb)
			if r := saidBy(t, e); e.exit != 8 || r.Unanswered != 1 || r.Effect != "" {
				t.Errorf("%v\nrequests: %s", e, describe(p))
			}
			if err := s.Again(); err != nil {
				t.Fatal(err)
			}
		})
		t.Run(verb+"/waited-for", func(t *testing.T) {
			if !every {
				t.Skip("it takes half a minute: OUTAGES=all")
			}
			var restart sync.WaitGroup
			e, p := killing(t, func() { restart.Go(func() { again(t) }) }, verb+" --wait 1m")
			restart.Wait()
			puts := 0
			for _, r := range p.Requests() {
				if r.Method == http.MethodPut {
					puts++
				}
			}
			if e.exit != 8 || saidBy(t, e).Effect != "" || puts != 1 || s.state(t) != "RUNNING" || s.record(t, next).interrupted() {
				t.Errorf("%v\nrequests: %s", e, describe(p))
			}
		})
		t.Run(verb+"/delivered-to-the-next", func(t *testing.T) {
			done := make(chan struct{})
			e, p := killing(t, func() { again(t); close(done) }, verb+" --wait 1m")
			end := time.Now()
			<-done
			r := saidBy(t, e)
			if seen := begun.Before(end.Add(-time.Second)); e.exit != 8 || r.Other != next && (seen || r.Unanswered != 1) {
				t.Errorf("next %s\n%v\nrequests: %s", next, e, describe(p))
			}
		})
	}
	s.clear(t)
}
