package sim_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/stomp"
)

// listener hears what the broker of a server sends.
type listener struct {
	t *testing.T
	*blueapi.Listener
}

func (l *lab) listen() *listener {
	l.t.Helper()
	b := &blueapi.Broker{Address: "broker:61613", Dial: l.DialBroker}
	heard := &listener{l.t, b.Listen(l.t.Context())}
	l.t.Cleanup(heard.Close)
	if err := heard.Subscribed(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	return heard
}

// words are the events that have come, in short.
func (l *listener) words() string {
	l.t.Helper()
	var words []string
	for {
		ctx, cancel := context.WithTimeout(l.t.Context(), time.Millisecond)
		e, err := l.Next(ctx)
		cancel()
		if err != nil {
			return strings.Join(words, " ")
		}
		switch {
		case e.Worker != nil:
			word := string(e.Worker.State)
			if e.Worker.Task.Complete {
				word += "!"
			}
			words = append(words, word)
		case e.Data != nil:
			words = append(words, e.Data.Name)
		case e.Progress != nil:
			words = append(words, "progress")
		default:
			words = append(words, "gap")
		}
	}
}

const unpublishedIdle = "Error(s) publishing event: state=<WorkerState.IDLE: 'IDLE'> task_status=TaskStatus(task_id='ID'" +
	", result=None, task_complete=False, task_failed=False) errors=[] warnings=[] "

func (l *lab) expectOutcome(id, want string) {
	l.t.Helper()
	o := l.task(id).Outcome
	if o == nil {
		l.t.Errorf("%s has not ended", id)
		return
	}
	if got := strings.ReplaceAll(o.Type+" "+o.Message, id, "ID"); got != want {
		l.t.Errorf("outcome\n     got %s\nexpected %s", got, want)
	}
}

// TestNoBroker: what was seen of a server whose broker was away. A plan that is
// started does not run, and each event takes longer than the one before.
func TestNoBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &sim.Server{NoBroker: true})
		const message = "down ConnectFailedException: The source message was blank"
		l.expectEnvironments(l.environments(), "A "+message)
		begun := time.Now()
		id := l.starts("append_line", `{"path":"f","line":"here"}`)
		if took := time.Since(begun).Round(100 * time.Millisecond); took != 800*time.Millisecond {
			t.Errorf("the PUT took %v", took)
		}
		time.Sleep(2 * time.Second)
		l.expectOutcome(id, "ExceptionGroup "+unpublishedIdle+"(2 sub-exceptions)")
		time.Sleep(5 * time.Second)
		if errs := l.task(id).Errors; len(errs) != 2 || len(l.Lines("f")) != 0 || len(l.Runs()) != 0 {
			t.Errorf("%q, lines %q, runs %v", errs, l.Lines("f"), l.Runs())
		}
		l.delete()
		time.Sleep(10 * time.Second)
		l.expectEnvironments(l.environments(), "A "+message)
		l.expect("state", l.get("/worker/state"), `"IDLE"`)
	})
}

// TestBrokerComesLate: the more often it was tried, the more often each event comes,
// until a reload.
func TestBrokerComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &sim.Server{NoBroker: true})
		l.starts("nap", `{"seconds":0}`)
		time.Sleep(10 * time.Second)
		l.StartBroker()
		heard := l.listen()
		l.starts("append_line", `{"path":"f","line":"here"}`)
		time.Sleep(time.Second)
		want := strings.Repeat("RUNNING ", 8) + strings.Repeat("IDLE ", 9) + strings.TrimSpace(strings.Repeat("IDLE! ", 9))
		if got := heard.words(); got != want {
			t.Errorf("got %s", got)
		}
		if len(l.Lines("f")) != 1 {
			t.Errorf("%q", l.Lines("f"))
		}
		l.expectEnvironments(l.environments(), "A down ConnectFailedException: The source message was blank")
		l.delete()
		time.Sleep(10 * time.Second)
		l.expectEnvironments(l.environments(), "A")
		l.starts("nap", `{"seconds":1}`)
		time.Sleep(2 * time.Second)
		if got := heard.words(); got != "RUNNING IDLE IDLE!" {
			t.Errorf("got %s", got)
		}
	})
}

// TestBrokerLost: a plan that sends nothing runs to its end, one that does ends
// there, and both are recorded as failed; one that is to begin does not run.
func TestBrokerLost(t *testing.T) {
	inLab(t, func(l *lab) {
		heard := l.listen()
		quiet := l.starts("append_line", `{"path":"f","line":"first","seconds":2,"last":"last"}`)
		time.Sleep(time.Second)
		l.StopBroker()
		time.Sleep(2 * time.Second)
		l.expectOutcome(quiet, "ExceptionGroup "+unpublishedIdle+"(1 sub-exception)")
		if n := len(l.Lines("f")); n != 2 {
			l.t.Errorf("%d lines", n)
		}
		l.starts("append_line", `{"path":"f","line":"never"}`)
		time.Sleep(time.Second)
		if n := len(l.Lines("f")); n != 2 || len(l.Runs()) != 1 {
			l.t.Errorf("%d lines, %d runs", n, len(l.Runs()))
		}
		l.StartBroker()
		time.Sleep(11 * time.Second)
		if got := heard.words(); got != "RUNNING gap" {
			l.t.Errorf("got %s", got)
		}
		l.starts("nap", `{"seconds":1}`)
		time.Sleep(2 * time.Second)
		if got := heard.words(); got != "RUNNING IDLE IDLE!" {
			l.t.Errorf("got %s", got)
		}

		l.starts("many_events", `{"n":100,"delay":0.1}`)
		time.Sleep(time.Second)
		l.StopBroker()
		time.Sleep(200 * time.Millisecond)
		l.expect("state", l.get("/worker/state"), `"IDLE"`)
		l.StartBroker()
		time.Sleep(11 * time.Second)
		l.starts("moves", `{"x":5,"y":5}`)
		time.Sleep(time.Second)
		l.StopBroker()
		time.Sleep(200 * time.Millisecond)
		l.expect("state", l.get("/worker/state"), `"IDLE"`)
	})
}

// TestCommandWithoutBroker: nobody hears of a pause or an abort, so the plan goes on
// and only the state says otherwise.
func TestCommandWithoutBroker(t *testing.T) {
	for command, state := range map[string]string{"PAUSED": "PAUSING", "ABORTING": "ABORTING"} {
		inLab(t, func(l *lab) {
			l.starts("append_line", `{"path":"f","line":"first","seconds":2,"last":"last"}`)
			l.StopBroker()
			l.expect(command, l.change(`{"new_state":"`+command+`"}`), "500 Internal Server Error")
			l.expect("state", l.get("/worker/state"), `"`+state+`"`)
			time.Sleep(3 * time.Second)
			l.expect("state", l.get("/worker/state"), `"IDLE"`)
			if n := len(l.Lines("f")); n != 2 {
				l.t.Errorf("%d lines", n)
			}
		})
	}
}

// TestPausedWithoutBroker: a plan that was paused when the broker went ends when it
// is resumed, and goes on when it is aborted.
func TestPausedWithoutBroker(t *testing.T) {
	for command, want := range map[string]struct {
		took  time.Duration
		lines int
	}{resume: {0, 1}, abort: {1500 * time.Millisecond, 2}} {
		inLab(t, func(l *lab) {
			l.starts("append_line", `{"path":"f","line":"first","seconds":2,"last":"last"}`)
			time.Sleep(450 * time.Millisecond)
			l.expect("pause", l.change(pause), `202 "PAUSED"`)
			l.StopBroker()
			begun := time.Now()
			l.expect(command, l.change(command), "500 Internal Server Error")
			if took := time.Since(begun).Round(500 * time.Millisecond); took != want.took {
				l.t.Errorf("%s took %v", command, took)
			}
			l.expect("state", l.get("/worker/state"), `"IDLE"`)
			if n := len(l.Lines("f")); n != want.lines {
				l.t.Errorf("%s: %d lines", command, n)
			}
		})
	}
}

// TestEventLost: a fault takes one event out.
func TestEventLost(t *testing.T) {
	inLab(t, func(l *lab) {
		heard := l.listen()
		l.InjectBroker(stomp.When(stomp.Receives("SEND"), stomp.Nth(3, stomp.Drop)))
		l.starts("nap", `{"seconds":1}`)
		time.Sleep(2 * time.Second)
		if got := heard.words(); got != "RUNNING IDLE" {
			l.t.Errorf("got %s", got)
		}
		l.HealBroker()
		l.starts("nap", `{"seconds":1}`)
		time.Sleep(2 * time.Second)
		if got := heard.words(); got != "RUNNING IDLE IDLE!" {
			l.t.Errorf("got %s", got)
		}
	})
}

// TestBrokerPort: the same on the real network, and after a restart of the broker at
// the same address.
func TestBrokerPort(t *testing.T) {
	var s sim.Server
	defer s.Close()
	addr, err := s.ListenBroker("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.StopBroker()
	if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr); err == nil {
		t.Error("it listens")
		c.Close()
	}
	s.StartBroker()
	b := &blueapi.Broker{Address: addr}
	heard := b.Listen(t.Context())
	defer heard.Close()
	if err := heard.Subscribed(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// facts are what was recorded of a broker that went away, in testdata/broker.json.
type facts struct {
	Outcome     json.RawMessage
	Errors      []string
	Initialized bool
	NextOutcome json.RawMessage `json:"next_outcome"`
	NextErrors  []string        `json:"next_errors"`
	Events      int             `json:"events_after_the_broker_is_back"`
}

// TestBrokerFacts holds what is recorded of plans to the real one's words: what one
// plan could not tell, the next one does, quoted as often as Python quotes.
func TestBrokerFacts(t *testing.T) {
	var recorded map[string]facts
	b, err := os.ReadFile(filepath.Join("testdata", "broker.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &recorded); err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string][2]string{
		"broker_lost_quiet_plan":          {"nap", `{"seconds":3}`},
		"broker_lost_plan_with_documents": {"many_events", `{"n":30,"delay":0.1}`},
	} {
		inLab(t, func(l *lab) {
			var f facts
			read := func(id string) (outcome json.RawMessage, errs []string) {
				var task struct {
					Outcome json.RawMessage
					Errors  []string
				}
				if err := json.Unmarshal([]byte(l.get("/tasks/"+id)), &task); err != nil {
					t.Fatal(err)
				}
				return task.Outcome, task.Errors
			}
			id := l.starts(run[0], run[1])
			l.StopBroker()
			time.Sleep(4 * time.Second)
			f.Outcome, f.Errors = read(id)
			f.Initialized = l.environment().Initialized
			id = l.starts("nap", `{"seconds":0.1}`)
			time.Sleep(time.Second)
			f.NextOutcome, f.NextErrors = read(id)
			l.StartBroker()
			time.Sleep(12 * time.Second)
			heard := l.listen()
			l.starts("nap", `{"seconds":0.1}`)
			time.Sleep(time.Second)
			f.Events = len(strings.Fields(heard.words()))
			got, want := anonymous(t, f), anonymous(t, recorded[name])
			if got != want {
				t.Errorf("%s\n     got %s\nrecorded %s", name, got, want)
			}
		})
	}
}

// anonymous is a value in JSON, with ids in the order of their appearance.
func anonymous(t *testing.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	n := newNormal(t)
	return uuid.ReplaceAllStringFunc(string(b), func(id string) string { return n.name("id", id) })
}
