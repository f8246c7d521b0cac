//go:build linux && realserver

package realserver

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// brokerFault befalls the broker of callers, whose plan takes two seconds.
type brokerFault struct {
	name string
	long bool
	// play is called before the caller begins.
	play func(t *testing.T, l *line)
	// spoils is a fault that has the server record the plan as failed.
	spoils bool
}

func brokerFaults() []brokerFault {
	// inPlan calls f when the plan has been asked to start, half a second later.
	inPlan := func(l *line, f func()) {
		l.proxy.Before(http.MethodPut, "/worker/task", func() {
			l.befalls.Add(1)
			time.AfterFunc(500*time.Millisecond, func() { defer l.befalls.Done(); f() })
		})
	}
	away := func(d time.Duration) func(*testing.T, *line) {
		return func(t *testing.T, l *line) {
			inPlan(l, func() {
				l.relay.down()
				if d > 0 {
					time.AfterFunc(d, func() { l.relay.up(t) })
				}
			})
		}
	}
	return []brokerFault{
		{name: "none", play: func(*testing.T, *line) {}},
		{name: "away for 1 s in mid-plan", play: away(time.Second)},
		{name: "away for 30 s in mid-plan", long: true, play: away(30 * time.Second)},
		{name: "away for ever in mid-plan", play: away(0)},
		{name: "away from the start, for ever", play: func(_ *testing.T, l *line) { l.relay.down() }},
		{name: "silent from the start", long: true, play: func(_ *testing.T, l *line) { l.relay.mute(); l.relay.cut() }},
		{name: "the end event is lost", play: func(_ *testing.T, l *line) {
			l.relay.filter(func(frame []byte) bool { return !endEvent(frame) })
			l.relay.cut()
		}},
		{name: "RabbitMQ stops in mid-plan", long: true, spoils: true, play: func(t *testing.T, l *line) {
			inPlan(l, func() {
				if err := l.server.BrokerStop(); err != nil {
					t.Error(err)
				}
			})
		}},
	}
}

// TestPromise5CallersBroker takes the broker away from callers that wait for events: they
// return, with the right result, and the plan runs once.
func TestPromise5CallersBroker(t *testing.T) {
	s := theServer(t)
	through := throughWhat(t)
	every, _, _ := choice(t)
	var rows []string
	for _, c := range realCallers() {
		for _, f := range brokerFaults() {
			if !c.broker || !every && (f.long || c.call == "") {
				continue
			}
			t.Run(strings.ReplaceAll(c.name+"/"+f.name, " ", "-"), func(t *testing.T) {
				rows = append(rows, fmt.Sprintf("| %s | %s | %s |", c.name, f.name, f.try(t, lay(t, s, through), c)))
			})
		}
	}
	fmt.Fprintf(os.Stdout, "\n| caller | its broker | result |\n|---|---|---|\n%s\n\n", strings.Join(rows, "\n"))
}

func (f brokerFault) try(t *testing.T, l *line, c caller) string {
	l.server.clear(t)
	file := filepath.Join(t.TempDir(), "lines")
	f.play(t, l)
	patience := time.Minute
	if l.through == "nothing" {
		patience = impatience
	}
	outcome, took := c.ask(t, l, plan{"append_line", map[string]any{"path": file, "line": "x", "seconds": 2}}, patience)
	if f.spoils {
		l.befalls.Wait() // a broker that is still stopping is not started
		if err := l.server.BrokerStart(); err != nil {
			t.Fatal(err)
		}
		l.server.publishing(t)
	}
	l.server.settle(t)
	ran := lines(t, file)
	words := fmt.Sprintf("ran %d x, %.1f s", ran, took.Seconds())
	if (outcome == "success" || f.spoils && outcome != "hangs") && ran == 1 {
		return fmt.Sprintf("ok: %s, %s", brief(outcome), words)
	}
	words = fmt.Sprintf("**%s**, %s", brief(outcome), words)
	if l.through != "nothing" {
		t.Errorf("%s\nrequests: %s\n%s", words, describe(l.proxy), l.said())
	}
	return words
}

// TestPromise5Supervisor has a supervisor collect three samples, which it tries again
// if the service is unavailable: none is collected twice, and if no outage is longer
// than a second all are.
func TestPromise5Supervisor(t *testing.T) {
	s := theServer(t)
	through := throughWhat(t)
	if through == "exec" {
		through = "gateway" // its calls are those of the tables before
	}
	const put, start = http.MethodPut, "/worker/task"
	every, _, _ := choice(t)
	for _, sc := range []struct {
		name    string
		options []string
		all     bool // the samples are collected
		play    func(l *line)
	}{
		{"none", nil, true, func(*line) {}},
		{"the answers of the first three PUTs are lost", nil, true, func(l *line) {
			for range 3 {
				l.proxy.LoseAnswer(put, start)
			}
		}},
		{"refused for 1 s as the first and the second PUT are answered", nil, true, func(l *line) {
			for k := range 2 {
				l.proxy.Arm(faultproxy.Outage{Kind: faultproxy.Refused, For: time.Second, Request: k + 1, Method: put, Path: start, Answered: true})
			}
		}},
		{"reset for 10 s as the second PUT is answered, --wait 30s", []string{"--wait", "30s"}, true, func(l *line) {
			l.proxy.Arm(faultproxy.Outage{Kind: faultproxy.Reset, For: 10 * time.Second, Request: 2, Method: put, Path: start, Answered: true})
		}},
		{"reset for 10 s before the second POST", nil, false, func(l *line) {
			l.proxy.Arm(faultproxy.Outage{Kind: faultproxy.Reset, For: 10 * time.Second, Request: 2, Method: http.MethodPost, Path: "/tasks"})
		}},
	} {
		if long := strings.Contains(sc.name, "10 s"); long && !every {
			continue
		}
		t.Run(strings.ReplaceAll(sc.name, " ", "-"), func(t *testing.T) {
			s.clear(t)
			l := lay(t, s, through, sc.options...)
			file := filepath.Join(t.TempDir(), "lines")
			sc.play(l)
			samples := []string{"s1", "s2", "s3"}
			a := callers.do(t, s.Python, call{
				Call: "supervisor", Config: l.config(t, true), Plan: "append_line",
				Params: map[string]any{"path": file, "seconds": 0.5}, Samples: samples,
			}, 90*time.Second)
			l.proxy.End()
			s.settle(t)
			b, _ := os.ReadFile(file) // it is not there if none ran
			got := strings.Fields(string(b))
			said := "collects all"
			if a.Error != "" {
				said = "ends: " + brief(a.Error)
			}
			fmt.Fprintf(os.Stdout, "| supervisor, %s | %s; ran %v, %.1f s |\n", sc.name, said, got, a.Took)
			once := len(got) <= len(samples) && slices.Equal(got, samples[:len(got)])
			if l.through != "nothing" && (!once || sc.all && (a.Error != "" || len(got) != len(samples))) {
				t.Errorf("%s; ran %v\nrequests: %s\n%s", a.Error, got, describe(l.proxy), l.said())
			}
		})
	}
}
