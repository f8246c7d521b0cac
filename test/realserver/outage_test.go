//go:build linux && realserver

package realserver

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// moment is when an outage begins.
type moment struct {
	name string
	at   faultproxy.Outage // without Kind and For
}

func moments() []moment {
	ms := []moment{
		{"start", faultproxy.Outage{}},
		{"before-PUT", faultproxy.Outage{Request: 1, Method: "PUT", Path: "/worker/task"}},
		{"after-PUT", faultproxy.Outage{Request: 1, Method: "PUT", Path: "/worker/task", Answered: true}},
	}
	for k := 1; k <= 6; k++ {
		ms = append(ms,
			moment{fmt.Sprintf("before-%d", k), faultproxy.Outage{Request: k}},
			moment{fmt.Sprintf("after-%d", k), faultproxy.Outage{Request: k, Answered: true}})
	}
	for _, d := range []time.Duration{300, 900, 1500} {
		ms = append(ms, moment{fmt.Sprintf("at-%dms", d), faultproxy.Outage{Delay: d * time.Millisecond}})
	}
	return ms
}

func kinds(t *testing.T) []faultproxy.Kind {
	return slices.DeleteFunc(faultproxy.Kinds(), func(k faultproxy.Kind) bool {
		if k != faultproxy.Dropped {
			return false
		}
		err := faultproxy.CanDrop()
		if err != nil {
			t.Logf("no outages of kind %v: %v", k, err)
		}
		return err != nil
	})
}

// cell is one command through one outage.
type cell struct {
	command string
	kind    faultproxy.Kind
	moment  moment
}

func (c cell) name() string { return fmt.Sprintf("%s/%v/%s", c.command, c.kind, c.moment.name) }

// choice is what OUTAGES says: "all", or how many, or how many and a seed (20@7).
func choice(t *testing.T) (all bool, n int, rng *rand.Rand) {
	chosen := os.Getenv("OUTAGES")
	if chosen == "all" {
		return true, 0, nil
	}
	if chosen == "" {
		chosen = "20"
	}
	count, seed, _ := strings.Cut(chosen, "@")
	n, err := strconv.Atoi(count)
	if err != nil {
		t.Fatalf("OUTAGES=%s: want all, N or N@SEED", chosen)
	}
	s, err := strconv.ParseUint(seed+"0", 10, 64) // no seed is seed 0
	if err != nil {
		t.Fatalf("OUTAGES=%s: %v", chosen, err)
	}
	return false, n, rand.New(rand.NewPCG(s, 0)) //nolint:gosec // a choice that can be made again
}

// choose picks those that OUTAGES says. Every command and every kind gets its share.
func choose(t *testing.T, cells []cell) []cell {
	all, n, rng := choice(t)
	if all {
		return cells
	}
	left := slices.Clone(cells)
	rng.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	commands, kinds := make(map[string]int), make(map[faultproxy.Kind]int)
	var chosen []cell
	for len(chosen) < n && len(left) > 0 {
		i := 0
		for j, c := range left {
			if commands[c.command]+kinds[c.kind] < commands[left[i].command]+kinds[left[i].kind] {
				i = j
			}
		}
		commands[left[i].command]++
		kinds[left[i].kind]++
		chosen = append(chosen, left[i])
		left = slices.Delete(left, i, i+1)
	}
	return chosen
}

// TestPromise1OutageTable runs a plan through one outage of one second, of every
// kind, at every moment: the command succeeds, the plan runs once, and not more
// than five sends a second meet the outage.
func TestPromise1OutageTable(t *testing.T) {
	s := theServer(t)
	byName := make(map[string]command)
	var all []cell
	for _, c := range commands() {
		byName[c.name] = c
		for _, k := range kinds(t) {
			for _, m := range moments() {
				all = append(all, cell{c.name, k, m})
			}
		}
	}
	results := make(map[string]string)
	chosen := choose(t, all)
	for _, c := range chosen {
		t.Run(strings.ReplaceAll(c.name(), " ", "-"), func(t *testing.T) {
			o := c.moment.at
			o.Kind, o.For = c.kind, length(t)
			results[c.name()] = try(t, s, byName[c.command], o, nil, func(e ended, ran int) bool { return e.exit == 0 && ran == 1 })
		})
	}
	report(os.Stdout, chosen, results)
}

// length is how long the outages of the table are, one second if OUTAGE_FOR does
// not say otherwise.
func length(t *testing.T) time.Duration {
	d := os.Getenv("OUTAGE_FOR")
	if d == "" {
		return time.Second
	}
	l, err := time.ParseDuration(d)
	if err != nil {
		t.Fatalf("OUTAGE_FOR: %v", err)
	}
	return l
}

// TestPromise1Frozen stops the server's processes, as a stalled machine does, at
// every request of a run and in mid-plan: the command succeeds, the plan runs once.
func TestPromise1Frozen(t *testing.T) {
	s := theServer(t)
	step := 4 // of the moments; each command gets others
	if os.Getenv("OUTAGES") == "all" {
		step = 1
	}
	var rows []string
	for i, cmd := range commands() {
		for k := 1 + i; k <= 7; k += step {
			for _, d := range []time.Duration{time.Second, 2500 * time.Millisecond} {
				t.Run(fmt.Sprintf("%s/before-%d/%v", cmd.name, k, d), func(t *testing.T) {
					words := frozen(t, s, cmd, k, d)
					rows = append(rows, fmt.Sprintf("| %s | frozen %v | before-%d | %s |", cmd.name, d, k, words))
				})
			}
		}
	}
	fmt.Fprintf(os.Stdout, "\n%s\n\n", strings.Join(rows, "\n"))
}

// frozen runs the plan, and freezes the server before request k reaches it.
func frozen(t *testing.T, s *Server, c command, k int, d time.Duration) string {
	p, err := faultproxy.Listen(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	thawed := make(chan (<-chan struct{}), 1)
	for range k - 1 {
		p.Before("", "", func() {})
	}
	p.Before("", "", func() {
		ch, err := s.Freeze(d)
		if err != nil {
			t.Error(err)
			return
		}
		thawed <- ch
	})
	file := filepath.Join(t.TempDir(), "lines")
	e := c.run(t, s, p.URL(), plan{"append_line", map[string]any{"path": file, "line": "x", "seconds": 1}})
	select {
	case ch := <-thawed:
		<-ch
	default:
		t.Errorf("the run made fewer than %d requests", k)
	}
	s.settle(t)
	ran := lines(t, file)
	if (e.exit != 0 || ran != 1) && c.sound {
		t.Errorf("%d line(s)\n%v\nrequests: %s", ran, e, describe(p))
	}
	return fmt.Sprintf("exit %d, %d line(s), %.1f s", e.exit, ran, e.took.Seconds())
}

// TestPromise3EndlessOutage lets the server go away for good. A run whose plan
// was not asked to start gives up, as fast as promised, and says that nothing was
// started; later it waits longer before it says that it does not know.
func TestPromise3EndlessOutage(t *testing.T) {
	s := theServer(t)
	ks := []faultproxy.Kind{faultproxy.Refused, faultproxy.BlackHole, faultproxy.Unavailable}
	later := ks[:1]
	if os.Getenv("OUTAGES") == "all" {
		ks = kinds(t)
		later = ks
	}
	results := make(map[string]string)
	var chosen []cell
	endless := func(c cell) faultproxy.Outage {
		chosen = append(chosen, c)
		o := c.moment.at
		o.Kind, o.For = c.kind, faultproxy.Forever
		return o
	}
	cmds := commands()
	for _, cmd := range cmds {
		for _, k := range ks {
			c := cell{cmd.name, k, moment{name: "start"}}
			o := endless(c)
			t.Run(strings.ReplaceAll(c.name(), " ", "-"), func(t *testing.T) {
				results[c.name()] = try(t, s, cmd, o, nil, func(e ended, ran int) bool { return e.exit > 0 && ran == 0 })
			})
		}
	}
	run := cmds[len(cmds)-1] // whose exit status tells more
	var worker, noting sync.Mutex
	t.Run("later", func(t *testing.T) { // they take a minute each: together, but the worker's part one by one
		for _, k := range later {
			for _, m := range moments() {
				if !slices.Contains([]string{"before-PUT", "after-PUT", "at-900ms"}, m.name) {
					continue
				}
				c := cell{run.name, k, m}
				o := endless(c)
				t.Run(strings.ReplaceAll(c.name(), " ", "-"), func(t *testing.T) {
					t.Parallel()
					worker.Lock()
					free := sync.OnceFunc(worker.Unlock)
					defer free()
					began := func() { time.AfterFunc(4*time.Second, free) } // the plan takes one
					words := try(t, s, run, o, began, func(e ended, ran int) bool { return e.exit > 0 && ran <= 1 && (e.exit != 7 || ran == 0) })
					noting.Lock()
					defer noting.Unlock()
					results[c.name()] = words
				})
			}
		}
	})
	report(os.Stdout, chosen, results)
}

// try runs the plan through the outage and puts what happened in a few words. It calls
// began, if that is not nil, when the plan is asked to start.
func try(t *testing.T, s *Server, c command, o faultproxy.Outage, began func(), good func(e ended, ran int) bool) string {
	p, err := faultproxy.Listen(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	file := filepath.Join(t.TempDir(), "lines")
	p.Arm(o)
	if began != nil {
		p.Before("PUT", "/worker/task", began)
	}
	e := c.run(t, s, p.URL(), plan{"append_line", map[string]any{"path": file, "line": "x", "seconds": 1}})
	sends, spans := p.Sends(), p.Outages()
	if o.For != faultproxy.Forever {
		awaitEnd(spans, o.For)
	}
	p.End()
	s.settle(t)
	ran := lines(t, file)

	words := fmt.Sprintf("exit %d, %d line(s), %.1f s", e.exit, ran, e.took.Seconds())
	if o.For == faultproxy.Forever {
		words += fmt.Sprintf(", %d sends: `%s`", len(sends), strings.TrimSpace(e.stderr))
	}
	rate, counted := rateOf(p, sends, spans)
	words += ", " + counted
	ok := good(e, ran) && rate <= 5
	if ok {
		words = strings.Replace(words, "exit 0, 1 line(s)", "ok", 1)
	} else {
		words = "**" + words + "**"
	}
	if !ok && c.sound {
		t.Errorf("%s\n%v\nrequests: %s", words, e, describe(p))
	} else {
		t.Log(words)
	}
	return words
}

// awaitEnd waits until what an outage held is delivered.
func awaitEnd(spans []faultproxy.Span, long time.Duration) {
	if len(spans) > 0 {
		time.Sleep(time.Until(spans[0].Begin.Add(long)))
	}
}

// rateOf is the most that was sent in any second of the outage, as a number and in
// words.
func rateOf(p *faultproxy.Proxy, sends []faultproxy.Send, spans []faultproxy.Span) (int, string) {
	switch {
	case len(spans) == 0:
		return 0, "no such moment"
	case p.Counted() != nil:
		return 0, "not counted"
	}
	rate := faultproxy.MaxPerSecond(sends, spans[0])
	return rate, fmt.Sprintf("%d/s", rate)
}

// describe tells the story of a cell, for who has to find out what went wrong.
func describe(p *faultproxy.Proxy) string {
	var b strings.Builder
	var zero time.Time
	at := func(when time.Time) string {
		if zero.IsZero() {
			zero = when
		}
		return fmt.Sprintf("\n  %7.3f ", when.Sub(zero).Seconds())
	}
	for _, s := range p.Sends() {
		fmt.Fprintf(&b, "%ssend from port %d, connecting: %v", at(s.At), s.Port, s.Dial)
	}
	for _, r := range p.Requests() {
		fmt.Fprintf(&b, "%s%d. %s %s from port %d: reached the server: %v, told %d",
			at(r.At), r.Number, r.Method, r.Path, r.Port, r.Reached, r.Status)
	}
	for _, o := range p.Outages() {
		fmt.Fprintf(&b, "%soutage %v begins", at(o.Begin), o.Kind)
		if !o.End.IsZero() {
			fmt.Fprintf(&b, ", ends after %.3f s", o.End.Sub(o.Begin).Seconds())
		}
	}
	return b.String()
}

// report prints a table of what happened in the cells.
func report(w io.Writer, chosen []cell, results map[string]string) {
	fmt.Fprintln(w, "\n| command | outage | moment | result |\n|---|---|---|---|")
	for _, c := range chosen {
		if r := results[c.name()]; r != "" { // -run may have left it out
			fmt.Fprintf(w, "| %s | %v | %s | %s |\n", c.command, c.kind, c.moment.name, r)
		}
	}
	fmt.Fprintln(w)
}
