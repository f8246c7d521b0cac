//go:build linux && realserver

package realserver

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// misfortune befalls the request of a control command on its way.
type misfortune struct {
	name string
	late time.Duration // how long the request is under way
	// play returns a channel that speaks when the request was delivered, if that is
	// later than the client knows.
	play func(p *faultproxy.Proxy) <-chan int
}

func misfortunes() []misfortune {
	const method, path = http.MethodPut, "/worker/state"
	all := []misfortune{
		{"none", 0, func(*faultproxy.Proxy) <-chan int { return nil }},
		{"answer lost", 0, func(p *faultproxy.Proxy) <-chan int { p.LoseAnswer(method, path); return nil }},
		{"request lost", 0, func(p *faultproxy.Proxy) <-chan int { p.LoseRequest(method, path); return nil }},
		{"502 for an answer", 0, func(p *faultproxy.Proxy) <-chan int { p.HideAnswer(method, path); return nil }},
	}
	for _, d := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second} {
		all = append(all,
			misfortune{fmt.Sprintf("held %v", d), d, func(p *faultproxy.Proxy) <-chan int {
				p.Before(method, path, func() { time.Sleep(d) })
				return nil
			}},
			misfortune{fmt.Sprintf("reset, delivered after %v", d), d, func(p *faultproxy.Proxy) <-chan int {
				return p.DeliverLate(method, path, d)
			}})
	}
	return all
}

// straying is one control command of a plan that is about to end, or to be ended,
// and another client that starts the next as soon as it can.
type straying struct {
	verb   string
	meets  misfortune
	before time.Duration // from the program's start to the end of the plan, if it is not ended
}

// strayed is what became of it.
type strayed struct {
	reached bool // the plan that was meant
	hit     bool // the next plan
	exit    int
	// What the command said: its JSON output.
	Effect     string
	Unanswered int
	Other      string
	named      bool // Other is the next plan
}

// saidBy reads what a command said with -o json.
func saidBy(t *testing.T, e ended) strayed {
	r := strayed{exit: e.exit}
	if err := json.Unmarshal([]byte(e.stdout), &r); err != nil {
		t.Errorf("%v\n%v", err, e)
	}
	return r
}

// TestPromise6NextPlan sends control commands that meet misfortune while another
// client starts the next plan as soon as the worker is free. That plan is never hit
// without a word; and if no request is late, only if it began between a guard and the
// request that came after it at once, which nothing can prevent.
func TestPromise6NextPlan(t *testing.T) {
	s := theServer(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	var all []straying
	for _, verb := range []string{"abort", "stop", "pause", "resume"} {
		for _, m := range misfortunes() {
			for _, before := range []time.Duration{2000, 1000, 500, 300, 200, 150, 100, 50, 0, -50} {
				all = append(all, straying{verb, m, before * time.Millisecond})
			}
		}
	}
	if every, n, rng := choice(t); !every {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:min(n*2/5, len(all))]
	}
	slow := pace(t, s)
	counts := make(map[string]*tally)
	for _, c := range all {
		name := c.verb + "/" + c.meets.name
		t.Run(strings.ReplaceAll(fmt.Sprintf("%s/%v", name, c.before), " ", "-"), func(t *testing.T) {
			if counts[name] == nil {
				counts[name] = new(tally)
			}
			counts[name].add(c.try(t, s, bin, slow))
		})
	}
	s.clear(t)
	slices.SortStableFunc(all, func(a, b straying) int { return cmp.Compare(a.verb, b.verb) })
	fmt.Fprintln(os.Stdout, "\n| command | its request | times | reached its plan | hit the next | and named it | and had warned | in silence | warned in vain |\n|---|---|---|---|---|---|---|---|---|")
	for _, c := range all {
		if n := counts[c.verb+"/"+c.meets.name]; n != nil {
			fmt.Fprintf(os.Stdout, "| %s | %s | %d | %d | %d | %d | %d | %d | %d |\n", c.verb, c.meets.name,
				n.times, n.reached, n.hit, n.named, n.warned, n.silent, n.vain)
			delete(counts, c.verb+"/"+c.meets.name)
		}
	}
	fmt.Fprintln(os.Stdout)
}

type tally struct{ times, reached, hit, named, warned, silent, vain int }

func (n *tally) add(r strayed) {
	count := func(to *int, yes bool) {
		if yes {
			*to++
		}
	}
	said := r.named || r.Unanswered > 0
	n.times++
	count(&n.reached, r.reached)
	count(&n.hit, r.hit)
	count(&n.named, r.hit && r.named)
	count(&n.warned, r.hit && !r.named && said)
	count(&n.silent, r.hit && !said)
	count(&n.vain, !r.hit && said)
}

// pace is how much longer a nap takes here than it should.
func pace(t *testing.T, s *Server) float64 {
	const nap = 2.0
	s.clear(t)
	task := s.begin(t, plan{"nap", map[string]any{"seconds": nap}})
	begin := time.Now()
	for !s.record(t, task).Complete {
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(begin).Seconds() / nap
}

// guardless reports whether a control command was sent more than a second after
// what was read before it.
func guardless(requests []faultproxy.Request) bool {
	for i, r := range requests {
		if r.Method == http.MethodPut && (i == 0 || requests[i-1].Method != http.MethodGet || r.At.Sub(requests[i-1].At) > time.Second) {
			return true
		}
	}
	return false
}

// longer is how many seconds the next plan takes. The server answers nobody while one
// runs that was resumed.
func longer(verb string) int {
	if verb == "resume" {
		return 3
	}
	return 30
}

func (c straying) try(t *testing.T, s *Server, bin string, slow float64) strayed {
	s.clear(t)
	proxy, err := faultproxy.Listen(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	delivered := c.meets.play(proxy)
	next := s.create(t, plan{"nap", map[string]any{"seconds": longer(c.verb)}})

	lasts := max(c.before, 0) + 300*time.Millisecond
	task := s.begin(t, plan{"nap", map[string]any{"seconds": lasts.Seconds()}})
	end := time.Now().Add(time.Duration(float64(lasts) * slow))
	if c.verb == "resume" { // the plan ends when it was resumed
		s.put(t, "PAUSED")
		if !s.reaches(t, "PAUSED") {
			t.Fatal("the plan could not be paused")
		}
		end = time.Now().Add(c.before)
	}
	var rival sync.WaitGroup
	rival.Go(func() {
		for deadline := time.Now().Add(30 * time.Second); !s.start(t, next) && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		if c.verb == "resume" {
			s.put(t, "PAUSED")
		}
	})
	time.Sleep(time.Until(end.Add(-c.before)))
	begin := time.Now()
	args := []string{bin, "-h", proxy.URL(), c.verb, "--task", task, "-o", "json"}
	if c.verb == "resume" {
		args = append(args, "-y")
	}
	e := execute(t, time.Minute, args)

	r := saidBy(t, e)
	r.named = r.Other == next
	if c.verb == "pause" && s.current(t) == task && s.state(t) == "PAUSED" {
		r.reached = true
		s.put(t, "ABORTING") // by somebody else: the next plan can begin
	}
	rival.Wait()
	sent := slices.ContainsFunc(proxy.Requests(), func(r faultproxy.Request) bool { return r.Method == http.MethodPut })
	if delivered != nil && sent {
		<-delivered
	}
	time.Sleep(max(time.Until(begin.Add(c.meets.late)), 0) + 400*time.Millisecond) // a nap looks up every tenth
	switch c.verb {
	case "abort", "stop":
		r.reached = s.record(t, task).interrupted()
		r.hit = s.record(t, next).interrupted()
	case "pause":
		r.hit = s.state(t) == "PAUSED"
	case "resume":
		r.reached = true // or the next would not have begun
		r.hit = s.state(t) != "PAUSED"
	}
	done := r.Effect == "accepted" || r.Effect == "seen"
	switch {
	case r.hit && !r.named && r.Unanswered == 0:
		t.Errorf("the next plan was hit in silence\n%v\nrequests: %s", e, describe(proxy))
	case r.hit && c.meets.late == 0 && (!r.named || r.exit == 0 || guardless(proxy.Requests())):
		t.Errorf("the next plan was hit\n%v\nrequests: %s", e, describe(proxy))
	case r.hit && r.named && r.exit == 0:
		t.Errorf("the next plan was hit, and the status is 0\n%v\nrequests: %s", e, describe(proxy))
	case done && !r.reached && !r.named:
		t.Errorf("it says that its plan was reached, which was not\n%v\nrequests: %s", e, describe(proxy))
	case !done && r.reached && r.Unanswered == 0:
		t.Errorf("it says that its plan was not reached, which was\n%v\nrequests: %s", e, describe(proxy))
	}
	t.Logf("reached %v, hit the next %v, exit %d, %s", r.reached, r.hit, r.exit, strings.TrimSpace(e.stdout))
	return r
}
