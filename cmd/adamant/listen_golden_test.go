package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/stomp"
)

// recordedBroker is where the recorded commands found their message broker.
const recordedBroker = "127.0.0.1:24461"

// newTestBroker returns a message broker, and where it is.
func newTestBroker(t *testing.T) (*stomp.Broker, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := new(stomp.Broker)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = b.Serve(l)
	}()
	t.Cleanup(func() { _ = b.Close(); <-served })
	return b, l.Addr().String()
}

// events are those that the server published in the case, of a task.
func (c golden) events(t *testing.T, task string) [][]byte {
	t.Helper()
	b, err := os.ReadFile("testdata/golden/events/" + c.Name + ".ndjson")
	if os.IsNotExist(err) {
		return nil
	} else if err != nil {
		t.Error(err)
	}
	return bytes.Split(bytes.TrimSpace(bytes.ReplaceAll(b, []byte("TASK"), []byte(task))), []byte("\n"))
}

// eventsPrinted are events that make blueapi's client print a text in a format.
func eventsPrinted(f format, text string) (events [][]byte) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, ": ")
		switch {
		case f == jsonText:
			events = append(events, []byte(line))
		case word == "Worker Event":
			events = append(events, []byte(dumps(pyDict{{"state", rest}}, 0)))
		case word == "Data Event":
			events = append(events, []byte(dumps(pyDict{{"name", rest}, {"doc", pyDict{}}}, 0)))
		case rest == "100.0%":
			events = append(events, []byte(`{"statuses": {"a": {"percentage": null}, "b": {"percentage": 1.0}}}`))
		case rest == "0%":
			events = append(events, []byte(`{"statuses": {"a": {"percentage": null}}}`))
		}
	}
	if f != full {
		return events
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for len(lines) > 0 {
		title, state, _ := strings.Cut(lines[0], ":")
		var tree pyDict
		tree, lines = readTree(lines[1:], "    ")
		var event pyDict
		switch title {
		case "WorkerEvent":
			event = pyDict{{"state", strings.TrimSpace(state)}, {"task_status", tree}}
		case "Progress":
			event = tree
		default:
			event = pyDict{{"name", strings.ToLower(title)}, {"doc", tree}}
		}
		events = append(events, []byte(dumps(event, 0)))
	}
	return events
}

// readTree reads what writeTree writes. Every value is a number then, a string, or a truth.
func readTree(lines []string, indent string) (pyDict, []string) {
	var d pyDict
	for len(lines) > 0 {
		text, ok := strings.CutPrefix(lines[0], indent)
		if !ok && lines[0] != "" {
			break
		}
		lines = lines[1:]
		if text == "" { // where there is nothing to show
			d = append(d, pyItem{"nothing", nil})
			continue
		}
		key, value, nested := strings.Cut(text, ": ")
		if !nested {
			var inner pyDict
			inner, lines = readTree(lines, indent+"    ")
			d = append(d, pyItem{strings.TrimSuffix(key, ":"), inner})
		} else if value == "True" {
			d = append(d, pyItem{key, true})
		} else if v, err := parsePython([]byte(value)); err == nil && pyStr(v) == value {
			d = append(d, pyItem{key, v})
		} else {
			d = append(d, pyItem{key, value})
		}
	}
	return d, lines
}

// watched is what a program prints, and tells when it is as wanted.
type watched struct {
	wanted func(string) bool
	seen   chan struct{}

	mu   sync.Mutex
	b    strings.Builder
	told bool
}

func watch(wanted func(string) bool) *watched {
	return &watched{wanted: wanted, seen: make(chan struct{})}
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(b)
	if !w.told && w.wanted(w.b.String()) {
		w.told = true
		close(w.seen)
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// attend does what was done while the recorded command ran: it interrupts a run, and
// publishes events for one that listens, and then ends its input.
func (c golden) attend(cmd *exec.Cmd, stdin io.WriteCloser, want string, b *stomp.Broker, begun <-chan struct{}, out, errs *watched, ended <-chan struct{}) {
	wait := func(for_ <-chan struct{}) bool {
		select {
		case <-for_:
			return true
		case <-ended:
			return false
		}
	}
	switch {
	case strings.HasPrefix(c.Name, "run-interrupted"):
		if wait(begun) && (want == "" || wait(out.seen)) {
			_ = cmd.Process.Signal(os.Interrupt)
		}
	case strings.HasPrefix(c.Name, "listen-") && wait(errs.seen):
		if f := format(strings.TrimPrefix(c.Name, "listen-")); want != "" {
			for _, e := range eventsPrinted(f, want) {
				b.Publish(blueapi.DefaultDestination, e)
			}
			wait(out.seen)
			_, _ = io.WriteString(stdin, "\n")
		} else if c.Name == "listen-interrupted" {
			_ = cmd.Process.Signal(os.Interrupt)
		} else {
			_ = stdin.Close()
		}
	}
}
