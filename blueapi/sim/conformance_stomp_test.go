package sim_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/internal/stomp"
)

// stompCases are what was done while the broker was listened to, by the names of
// the recordings.
func stompCases() map[string]func(*target) {
	finish := func(plan, params string) func(*target) {
		return func(g *target) {
			g.start(plan, params)
			g.until("IDLE")
		}
	}
	paused := func(plan, params, state string, run, rest time.Duration, want string) func(*target) {
		return func(g *target) {
			g.start(plan, params)
			time.Sleep(run)
			g.change("PAUSED", "", "PAUSED", "PAUSING")
			g.until("PAUSED")
			time.Sleep(rest)
			g.change(state, "", want)
			g.until("IDLE")
		}
	}
	// Recorded with a tenth of these times, which a busy machine does not keep.
	const threeEvents = 2500 * time.Millisecond
	slowly := func(n int) string { return fmt.Sprintf(`{"n":%d,"delay":1}`, n) }
	cancelled := func(state string) func(*target) {
		return func(g *target) {
			g.start("many_events", slowly(100))
			time.Sleep(threeEvents)
			g.change(state, "because", state, "IDLE")
			g.until("IDLE")
		}
	}
	return map[string]func(*target){
		"success":        finish("nap", `{"seconds":0.3}`),
		"python-client":  finish("nap", `{"seconds":0.5}`),
		"result":         finish("returns", `{"value":{"a":[1,null]}}`),
		"unserialisable": finish("unserialisable", `{}`),
		"failure":        finish("fail", `{"message":"boom","seconds":0.2}`),
		"documents":      finish("many_events", `{"n":3}`),
		"count":          finish("count", `{"detectors":["det"],"num":2}`),
		"progress":       finish("moves", `{"x":0.2,"y":0.1}`),

		"paused-resumed":          paused("nap", `{"seconds":1}`, "RUNNING", 0, 500*time.Millisecond, "IDLE"),
		"paused-aborted":          paused("nap", `{"seconds":20}`, "ABORTING", 0, 0, "IDLE"),
		"open-run-paused-resumed": paused("many_events", slowly(10), "RUNNING", threeEvents, 300*time.Millisecond, "Internal Server Error"),
		"open-run-paused-aborted": paused("many_events", slowly(10), "ABORTING", threeEvents, 300*time.Millisecond, "IDLE"),

		"aborted": cancelled("ABORTING"),
		"stopped": cancelled("STOPPING"),
		"pending-only": func(g *target) {
			id := g.submit("nap", `{"seconds":1}`)
			time.Sleep(500 * time.Millisecond)
			g.send("DELETE", "/tasks/"+id, "")
		},
		"deleted-while-running": func(g *target) {
			g.send("DELETE", "/tasks/"+g.start("nap", `{"seconds":1}`), "")
			time.Sleep(2 * time.Second)
		},
		"environment-reload": func(g *target) {
			g.send("DELETE", "/environment", "")
			time.Sleep(10 * time.Second)
		},
	}
}

// hear listens to the broker while something is done, and returns what came, with
// the frames of a recording.
func (g *target) hear(sent []string, do func(*target)) []string {
	g.t.Helper()
	conn, err := g.dialBroker(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	var frames []string
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 64<<10)
		rest := ""
		for {
			n, err := conn.Read(b)
			rest += string(b[:n])
			for {
				frame, after, whole := strings.Cut(rest, "\x00")
				if !whole {
					break
				}
				frames = append(frames, frame)
				rest = after
			}
			if err != nil {
				return
			}
		}
	})
	const greeting = 2 // STOMP, SUBSCRIBE
	for i, f := range sent {
		if i == greeting {
			time.Sleep(300 * time.Millisecond)
			do(g)
			time.Sleep(500 * time.Millisecond)
		}
		if _, err := conn.Write([]byte(f)); err != nil {
			g.t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond)
	_ = conn.Close()
	reading.Wait()
	return frames
}

// conformStomp holds a subscriber of the target to a recording.
func (g *target) conformStomp(name string, do func(*target)) {
	g.t.Helper()
	got, want := newNormal(g.t), newNormal(g.t)
	var sent, recorded, came []string
	for _, l := range loadLines(g.t, "stomp", name+".frames") {
		switch {
		case l.Dir == "out":
			sent = append(sent, l.Frame)
		case strings.TrimSpace(l.Frame) != "":
			recorded = append(recorded, want.frame(strings.TrimSuffix(l.Frame, "\x00")))
		}
	}
	for _, f := range g.hear(sent, do) {
		came = append(came, got.frame(f))
	}
	compareEvents(g.t, name, came, recorded)
}

func (g *target) conformAllStomp() {
	cases := stompCases()
	// In this order, for some depend on what was there before: a worker that has had
	// no task says more at its end.
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		g.conformStomp(name, cases[name])
		if name == "deleted-while-running" {
			g.conformStomp("next-after-deleted", func(g *target) {
				g.start("nap", `{"seconds":0.2}`)
				g.until("IDLE")
			})
		}
	}
}

func TestStompConformance(t *testing.T) { onTarget(t, (*target).conformAllStomp) }

// TestStompRecordingsAreUsed makes sure that no recording was left behind.
func TestStompRecordingsAreUsed(t *testing.T) {
	cases := stompCases()
	files, _ := filepath.Glob(filepath.Join("testdata", "stomp", "*.frames"))
	for _, f := range files {
		switch name := strings.TrimSuffix(filepath.Base(f), ".frames"); name {
		case "next-after-deleted", "server": // TestServerFrames
		default:
			if cases[name] == nil {
				t.Errorf("%s is used by no case", name)
			}
		}
	}
}

// A tap keeps what the server sends to its broker, on its first connection.
type tap struct {
	mu     sync.Mutex
	frames []string
}

func (s *tap) fault(p *stomp.Passage, next func(*stomp.Frame)) {
	if p.Conn == 1 && !p.Sent {
		b, _ := p.Frame.Append(nil, stomp.V11)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.frames = append(s.frames, strings.TrimSuffix(string(b), "\x00"))
	}
	next(p.Frame)
}

func (s *tap) sent() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.frames)
}

// TestServerFrames holds what the server itself sends to its broker, from the first
// frame of its connection to the last, to what was recorded of it.
func TestServerFrames(t *testing.T) {
	inLab(t, func(l *lab) {
		var tapped tap
		l.InjectBroker(tapped.fault)
		l.starts("nap", `{"seconds":0.3}`)
		time.Sleep(time.Second)
		l.starts("count", `{"detectors":["det"],"num":1}`)
		time.Sleep(2 * time.Second)
		l.Reload()
		time.Sleep(10 * time.Second)
		got, want := newNormal(t), newNormal(t)
		var came, recorded []string
		for _, f := range tapped.sent() {
			came = append(came, got.frame(f))
		}
		for _, line := range loadLines(t, "stomp", "server.frames") {
			if line.Dir == "out" {
				recorded = append(recorded, want.frame(strings.TrimSuffix(line.Frame, "\x00")))
			}
		}
		compareEvents(t, "server", came, recorded)
	})
}
