//go:build linux && realserver

package realserver

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// impatience is how long a caller may take with nothing in between before it is said to
// hang: its plan takes a second.
const impatience = 15 * time.Second

// TestPromise1Callers puts one outage of a second, of every kind, at the requests of
// programs that nobody will rewrite: none sees an error, each plan runs once, and not
// more than five sends a second meet the outage.
func TestPromise1Callers(t *testing.T) {
	s := theServer(t)
	through := throughWhat(t)
	byName := make(map[string]caller)
	var all []cell
	for _, c := range realCallers() {
		byName[c.name] = c
		for _, k := range kinds(t) {
			for _, m := range callerMoments(c) {
				all = append(all, cell{c.name, k, m})
			}
		}
	}
	results := make(map[string]string)
	chosen := choose(t, all)
	if every, n, _ := choice(t); !every {
		chosen = chosen[:min(len(chosen), max(n*3/4, 1))]
	}
	for i, c := range chosen {
		through := through
		if os.Getenv("THROUGH") == "" && i%5 == 4 {
			through = "exec" // which takes another start of Python
		}
		t.Run(strings.ReplaceAll(c.name(), " ", "-"), func(t *testing.T) {
			o := c.moment.at
			o.Kind, o.For = c.kind, length(t)
			l := lay(t, s, through)
			l.proxy.Arm(o)
			results[c.name()] = through + ": " + l.try(t, byName[c.command])
		})
	}
	report(os.Stdout, chosen, results)
}

// callerMoments are those at which an outage begins: at each of the first requests that
// come to the server.
func callerMoments(c caller) []moment {
	ms := []moment{{"start", faultproxy.Outage{}}}
	most := 10
	if c.looks {
		most = 1
	} else {
		ms = append(ms, around(faultproxy.Outage{Request: 1, Method: http.MethodPut, Path: "/worker/task"})...)
	}
	if c.call == "poll" {
		most = 3
	}
	for k := 1; k <= most; k++ {
		ms = append(ms, around(faultproxy.Outage{Request: k})...)
	}
	return ms
}

// trickery is what a line does to one request.
type trickery struct {
	name string
	play func(l *line)
}

func trickeries() []trickery {
	const put, start, post, tasks = http.MethodPut, "/worker/task", http.MethodPost, "/tasks"
	return []trickery{
		{"none", func(*line) {}},
		{"answer of PUT lost", func(l *line) { l.proxy.LoseAnswer(put, start) }},
		{"502 for the answer of PUT", func(l *line) { l.proxy.HideAnswer(put, start) }},
		{"PUT lost", func(l *line) { l.proxy.LoseRequest(put, start) }},
		{"PUT reset, delivered 2 s later", func(l *line) { l.late = 2 * time.Second; l.proxy.DeliverLate(put, start, l.late) }},
		{"answer of POST lost", func(l *line) { l.proxy.LoseAnswer(post, tasks) }},
		{"answers of POST and PUT lost", func(l *line) { l.proxy.LoseAnswer(post, tasks); l.proxy.LoseAnswer(put, start) }},
	}
}

// TestPromise5CallersLostAnswers loses requests and answers of callers that run a plan:
// none sees an error, and the plan runs once.
func TestPromise5CallersLostAnswers(t *testing.T) {
	s := theServer(t)
	through := throughWhat(t)
	type lost struct {
		caller   caller
		trickery trickery
	}
	var all []lost
	for _, c := range realCallers() {
		for _, tr := range trickeries() {
			if !c.looks {
				all = append(all, lost{c, tr})
			}
		}
	}
	if every, n, rng := choice(t); !every {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:min(max(n/4, 1), len(all))]
	}
	var rows []string
	for _, c := range all {
		t.Run(strings.ReplaceAll(c.caller.name+"/"+c.trickery.name, " ", "-"), func(t *testing.T) {
			l := lay(t, s, through)
			c.trickery.play(l)
			rows = append(rows, fmt.Sprintf("| %s | %s | %s |", c.caller.name, c.trickery.name, strings.TrimSuffix(l.try(t, c.caller), ", no such moment")))
		})
	}
	fmt.Fprintf(os.Stdout, "\n| caller | what is lost | result |\n|---|---|---|\n%s\n\n", strings.Join(rows, "\n"))
}

// try has a caller run a plan of a second over the line, or look on while one runs, and
// puts what came of it in a few words. With nothing in between nothing is asked of it.
func (l *line) try(t *testing.T, c caller) string {
	t.Helper()
	l.server.clear(t)
	file := filepath.Join(t.TempDir(), "lines")
	p := plan{"append_line", map[string]any{"path": file, "line": "x", "seconds": 1}}
	patience := time.Minute
	if l.through == "nothing" {
		patience = impatience
	}
	if c.looks {
		p.params["seconds"] = 120
		l.server.begin(t, p)
	}
	outcome, took := c.ask(t, l, p, patience)
	sends, spans := l.proxy.Sends(), l.proxy.Outages()
	awaitEnd(spans, length(t))
	l.proxy.End()
	time.Sleep(200*time.Millisecond + l.late) // what was held is being delivered
	if c.looks {
		l.server.put(t, "ABORTING")
	}
	l.server.settle(t)
	ran := lines(t, file)

	rate, counted := rateOf(l.proxy, sends, spans)
	words := fmt.Sprintf("ran %d x, %.1f s, %s", ran, took.Seconds(), counted)
	if outcome == "success" && ran == 1 && rate <= 5 {
		return "ok, " + words
	}
	words = fmt.Sprintf("**%s**, %s", brief(outcome), words)
	if l.through == "nothing" {
		t.Log(words)
		return words
	}
	t.Errorf("%s\nrequests: %s\n%s", words, describe(l.proxy), l.said())
	return words
}

// brief puts an error in one short line.
func brief(s string) string {
	s = strings.Join(strings.Fields(strings.NewReplacer("|", "/", `\r`, " ", `\n`, " ").Replace(s)), " ")
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
