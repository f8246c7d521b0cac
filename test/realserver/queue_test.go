//go:build linux && realserver

package realserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// queueService is a program nobody here wrote: daq-queuing-service, a beamline's queue
// of plans, whose worker runs them by the Python client with REST and STOMP. What it was
// refused, or does not know, it puts back into the queue.
type queueService struct {
	url string
	log *safeBuffer
}

// queued is what the service says of a task.
type queued struct {
	Status string
	Calls  []struct{ Errors []json.RawMessage } `json:"blueapi_calls"`
}

// startQueue starts the service for a line.
func startQueue(t *testing.T, l *line) *queueService {
	t.Helper()
	out, err := script("queue.sh")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "queue.yaml")
	text := fmt.Sprintf("blueapi:\n  api:\n    url: %s\n  stomp:\n    enabled: true\n    url: tcp://%s/\n    auth:\n      username: guest\n      password: guest\nconverter:\n  path: daq_queuing_service.plugins.converter\n  name: Converter\n", l.url, l.stomp)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	port := relayTo(t, l.server.STOMP) // a free port
	port.down()
	_, number, _ := strings.Cut(port.address, ":")
	q := &queueService{url: "http://" + port.address, log: new(safeBuffer)}
	cmd := exec.Command(strings.TrimSpace(string(out)), "queue_service.py", config, number)
	cmd.Stdout, cmd.Stderr = q.log, q.log
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "MPLBACKEND=Agg")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // a thread of it may wait for ever
		_ = cmd.Wait()
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if nc, err := net.Dial("tcp", port.address); err == nil {
			nc.Close()
			return q
		}
		if time.Now().After(end) {
			t.Fatalf("the queue service does not start\n%s", q.log)
		}
	}
}

// ask makes a request to the service.
func (q *queueService) ask(t *testing.T, method, path string, in, out any) {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, q.url+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := new(http.Client).Do(req)
	if err != nil {
		t.Fatalf("%v\n%s", err, q.log)
	}
	defer resp.Body.Close()
	if b, err = io.ReadAll(resp.Body); err == nil && out != nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s: %v: %s", method, path, resp.Status, err, b)
	}
}

// cause is the exception of which the worker died.
func (q *queueService) cause() string {
	_, crash, _ := strings.Cut(q.log.String(), "Worker crashed")
	cause := ""
	for line := range strings.Lines(crash) {
		if exception.MatchString(line) {
			cause = strings.TrimSpace(line)
		}
	}
	return cause
}

// exception is the last line of a traceback.
var exception = regexp.MustCompile(`^[A-Za-z_.]*(Error|Exception)\b|^[a-z_]+\.[a-z_.]+[A-Z]\w+`)

// wait waits until n tasks are over, the worker has died, the queue has stopped by
// itself, or patience is over; and says which.
func (q *queueService) wait(t *testing.T, n int, patience time.Duration) string {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		var history []queued
		var state struct {
			Paused bool
			Reason string `json:"last_pause_reason"`
		}
		q.ask(t, http.MethodGet, "/queue/state", nil, &state)
		q.ask(t, http.MethodGet, "/history", nil, &history)
		switch {
		case len(history) == n:
			return countStatuses(history)
		case strings.Contains(q.log.String(), "Worker crashed"):
			return fmt.Sprintf("its worker dies after %d tasks: %s", len(history), brief(q.cause()))
		case state.Paused && len(history) > 0:
			return fmt.Sprintf("it stops after %d tasks (%s): %s", len(history), state.Reason, countStatuses(history))
		case time.Now().After(end):
			return fmt.Sprintf("it hangs after %d tasks", len(history))
		}
	}
}

func countStatuses(history []queued) string {
	counts := make(map[string]int)
	for _, task := range history {
		counts[task.Status]++
	}
	var words []string
	for _, status := range []string{"Complete", "Error", "Cancelled"} {
		if n := counts[status]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, status))
		}
	}
	return strings.Join(words, ", ")
}

// queueFault befalls the service while it works.
type queueFault struct {
	name string
	long bool
	// play is called when the tasks are queued, before the first begins.
	play func(t *testing.T, l *line)
	// spoils is a fault that has the server itself record plans as failed: they ran once
	// all the same.
	spoils bool
}

const queueTasks = 10

func queueFaults() []queueFault {
	const put, start = http.MethodPut, "/worker/task"
	// each calls f before the k-th task is started.
	each := func(l *line, f func(k int)) {
		k := 0
		var next func()
		next = func() {
			k++
			go f(k)
			if k < queueTasks {
				l.proxy.Before(put, start, next)
			}
		}
		l.proxy.Before(put, start, next)
	}
	return []queueFault{
		{name: "none", long: true, play: func(*testing.T, *line) {}},
		{name: "the answer of each PUT is lost", play: func(_ *testing.T, l *line) {
			for range queueTasks {
				l.proxy.LoseAnswer(put, start)
			}
		}},
		{name: "each PUT is reset, and delivered 1 s later", long: true, play: func(_ *testing.T, l *line) {
			for range queueTasks {
				l.proxy.DeliverLate(put, start, time.Second)
			}
		}},
		{name: "an outage of 1 s at each PUT, of each kind", long: true, play: func(t *testing.T, l *line) {
			for i, k := range kinds(t) {
				l.proxy.Arm(faultproxy.Outage{Kind: k, For: time.Second, Request: 1 + i, Method: put, Path: start, Answered: i%2 == 0})
			}
		}},
		{name: "the callers' broker is cut for 1 s in each plan", play: func(t *testing.T, l *line) {
			each(l, func(k int) {
				if k%2 == 0 {
					return // the one before is being cut
				}
				time.Sleep(200 * time.Millisecond)
				l.relay.down()
				time.Sleep(time.Second)
				l.relay.up(t)
			})
		}},
		{name: "the callers' broker is away for ever, after the third", long: true, play: func(_ *testing.T, l *line) {
			each(l, func(k int) {
				if k == 3 {
					time.Sleep(200 * time.Millisecond)
					l.relay.down()
				}
			})
		}},
		{name: "RabbitMQ is restarted in the third plan", long: true, spoils: true, play: func(t *testing.T, l *line) {
			each(l, func(k int) {
				if k == 3 {
					if err := errors.Join(l.server.BrokerStop(), l.server.BrokerStart()); err != nil {
						t.Error(err)
					}
				}
			})
		}},
	}
}

// TestPromise5QueueService has the service run ten tasks while its requests and its
// broker fail: each runs once, in order.
func TestPromise5QueueService(t *testing.T) {
	s := theServer(t)
	through := throughWhat(t)
	if through == "exec" {
		t.Skip("a service of its own unit: it is pointed at a gateway")
	}
	all, _, _ := choice(t)
	var rows []string
	for _, f := range queueFaults() {
		if f.long && !all {
			continue
		}
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
			rows = append(rows, fmt.Sprintf("| %s | %s |", f.name, f.try(t, s, through)))
		})
	}
	fmt.Fprintf(os.Stdout, "\n| daq-queuing-service, ten tasks; what fails | result |\n|---|---|\n%s\n\n", strings.Join(rows, "\n"))
}

func (f queueFault) try(t *testing.T, s *Server, through string) string {
	s.clear(t)
	l := lay(t, s, through)
	q := startQueue(t, l)
	file := filepath.Join(t.TempDir(), "lines")
	var tasks []map[string]any
	var want []string
	for i := range queueTasks {
		want = append(want, strconv.Itoa(i+1))
		tasks = append(tasks, map[string]any{
			"name": "append_line", "instrument_session": "cm12345-1",
			"params": map[string]any{"path": file, "line": want[i], "seconds": 0.5},
		})
	}
	f.play(t, l)
	begin := time.Now()
	q.ask(t, http.MethodPost, "/queue", tasks, nil)
	q.ask(t, http.MethodPatch, "/queue/state", map[string]any{"paused": false}, nil)
	patience := 3 * time.Minute
	if through == "nothing" {
		patience = time.Minute
	}
	said := q.wait(t, queueTasks, patience)
	took := time.Since(begin)
	l.proxy.End()
	s.settle(t)
	if f.spoils {
		s.publishing(t)
	}
	b, _ := os.ReadFile(file) // it is not there if none ran
	got := strings.Fields(string(b))
	words := fmt.Sprintf("%s; ran %s, %.0f s", said, inWords(got), took.Seconds())
	good := slices.Equal(got, want) && said == fmt.Sprintf("%d Complete", queueTasks)
	if f.spoils { // the service stops at a plan that failed; until then
		good = len(got) <= len(want) && slices.Equal(got, want[:len(got)]) && !strings.Contains(said, "hangs") && !strings.Contains(said, "dies")
	}
	if good {
		return "ok: " + words
	}
	if through != "nothing" {
		t.Errorf("%s\nrequests: %s\n%s\n%s", words, describe(l.proxy), l.said(), q.log)
	}
	return "**" + words + "**"
}

// inWords says how often numbered tasks ran.
func inWords(ran []string) string {
	counts := make(map[string]int)
	twice := 0
	for _, line := range ran {
		if counts[line]++; counts[line] == 2 {
			twice++
		}
	}
	words := fmt.Sprintf("%d of %d", len(counts), queueTasks)
	if twice > 0 {
		words += fmt.Sprintf(", %d of them more than once: %s", twice, strings.Join(ran, " "))
	}
	return words
}
