package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/adamant-go/adamant/gateway"
)

// execReport is what exec tells of a command and its gateway. Times are in seconds.
type execReport struct {
	// Command is the program, without its arguments.
	Command  string    `json:"command"`
	Upstream string    `json:"upstream"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Seconds  float64   `json:"seconds"`
	// ExitStatus is the command's; 128+N if it was ended by signal N, which Signal names.
	ExitStatus int    `json:"exit_status"`
	Signal     string `json:"signal,omitempty"`
	// Requests is how many the command made, Attempts how many went to the server for
	// them, and Resends those of them that repeated another.
	Requests int `json:"requests"`
	Attempts int `json:"attempts"`
	Resends  int `json:"resends"`
	// Failed is how many the server did not answer.
	Failed int `json:"failed"`
	// Gone is how many whose caller did not wait for the answer.
	Gone    int          `json:"gone"`
	Outages []execOutage `json:"outages"`
	// Deeds counts what the gateway did beyond passing requests on, Refusals its own
	// answers: not-sent, withdrawn, unknown.
	Deeds    map[string]int `json:"deeds"`
	Refusals map[string]int `json:"refusals"`
	// Started are the tasks that were started, and Unknown those of which that is not
	// known.
	Started []string `json:"tasks_started"`
	Unknown []string `json:"tasks_unknown"`
	// Restarts is how often the gateway had to be started again.
	Restarts int `json:"gateway_restarts"`
}

// execOutage is a span in which the server did not answer.
type execOutage struct {
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	// Lasting tells that it had not ended with the command.
	Lasting bool `json:"lasting,omitempty"`
}

// execTally makes a report of the records of a gateway. Its methods may be called
// concurrently.
type execTally struct {
	waits *notifier

	mu     sync.Mutex
	report execReport
	down   time.Time // since when the server does not answer; zero if it does
}

func newExecTally(waits *notifier) *execTally {
	return &execTally{waits: waits, report: execReport{
		Outages: []execOutage{}, Deeds: map[string]int{}, Refusals: map[string]int{}, Started: []string{}, Unknown: []string{},
	}}
}

// read reads records to their end.
func (t *execTally) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line recordLine
		if json.Unmarshal(lines.Bytes(), &line) == nil { // the last one of a gateway that was killed may be cut
			t.add(line)
		}
	}
}

func (t *execTally) add(l recordLine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &t.report
	switch l.Event {
	case "":
	case outageBegan:
		if t.down.IsZero() { // else another gateway has found it too
			t.down = l.At
		}
		t.waits.Waiting("the server to answer")
		return
	case outageEnded:
		if !t.down.IsZero() {
			t.endOutage(l.At.Add(time.Duration(l.Took*float64(time.Second))), false)
		}
		return
	default:
		return
	}
	if l.Deed == string(gateway.Healed) { // which nobody has asked for
		r.Deeds[l.Deed]++
		return
	}
	r.Requests++
	r.Attempts += l.Attempts
	r.Resends += l.Resends
	if l.Deed != "" {
		r.Deeds[l.Deed]++
	}
	if l.Verdict != "" {
		r.Refusals[l.Verdict]++
	}
	switch {
	case isFailure(l):
		r.Failed++
	case l.Gone:
		r.Gone++
	}
	switch {
	case l.Task == "":
	case l.Verdict == "" && (l.Status == http.StatusOK || l.Status == http.StatusSwitchingProtocols):
		r.Started = withTask(r.Started, l.Task)
		r.Unknown = slices.DeleteFunc(r.Unknown, func(id string) bool { return id == l.Task })
	case l.Verdict == "unknown" && !slices.Contains(r.Started, l.Task):
		r.Unknown = withTask(r.Unknown, l.Task)
	}
}

// isFailure tells of a request that was not answered by the server itself.
func isFailure(l recordLine) bool {
	switch l.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout: // a proxy's, or the gateway's
		return true
	}
	return l.Verdict != "" || l.Deed == string(gateway.TurnedAway) || l.Status == 0 && !l.Gone
}

// restarted notes that the gateway is started again.
func (t *execTally) restarted() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Restarts++
}

func withTask(ids []string, id string) []string {
	if slices.Contains(ids, id) {
		return ids
	}
	return append(ids, id)
}

// endOutage notes an outage. t.mu is locked.
func (t *execTally) endOutage(end time.Time, lasting bool) {
	t.report.Outages = append(t.report.Outages, execOutage{Began: t.down, Seconds: end.Sub(t.down).Seconds(), Lasting: lasting})
	t.down = time.Time{}
	t.waits.Over()
}

// end returns the report, when all records were read.
func (t *execTally) end(now time.Time) execReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.down.IsZero() {
		t.endOutage(now, true)
	}
	r := t.report
	r.Ended, r.Seconds = now, now.Sub(r.Began).Seconds()
	return r
}

// lines are what is said at the end; none if nothing happened.
func (r execReport) lines() (all []string) {
	var did []string
	count := func(n int, one, many string) {
		switch {
		case n == 1:
			did = append(did, one)
		case n > 1:
			did = append(did, fmt.Sprintf(many, n))
		}
	}
	count(r.Resends, "1 request was sent again", "%d requests were sent again")
	count(r.Deeds[string(gateway.Settled)], "1 start settled without sending it again", "%d starts settled without sending them again")
	count(r.Deeds[string(gateway.Replaced)], "1 lost task started under its own id", "%d lost tasks started under their own ids")
	count(r.Deeds[string(gateway.Healed)], "1 end event made up for", "%d end events made up for")
	count(r.Restarts, "the gateway was started again once", "the gateway was started again %d times")
	if len(r.Outages)+r.Failed+len(did) > 0 {
		what := quantity(r.Requests, "request")
		if n := len(r.Outages); n > 0 {
			longest := slices.MaxFunc(r.Outages, func(a, b execOutage) int { return int(1000 * (a.Seconds - b.Seconds)) })
			hidden := "hidden in"
			if r.Failed > 0 {
				hidden = "in"
			}
			what = fmt.Sprintf("%s (longest %.1f s) %s %s", quantity(n, "outage"), longest.Seconds, hidden, what)
		}
		if len(did) > 0 {
			what += ": " + strings.Join(did, ", ")
		}
		all = append(all, fmt.Sprintf("%s; %d failed", what, r.Failed))
	}
	for _, task := range r.Unknown {
		all = append(all, fmt.Sprintf("task %s: it is not known whether it was started: 'adamant -h %s task %s' shows what the server has of it",
			task, r.Upstream, task))
	}
	return all
}

func quantity(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// write writes the report, whole or not at all.
func (r execReport) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, append(b, '\n'), 0o600) // a device, a pipe, or a link: a file must not take its place
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".adamant-report-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // not there any more if all went well
	_, err = f.Write(append(b, '\n'))
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
