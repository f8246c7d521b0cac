package blueapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/memnet"
)

// upgradeConn tells when it is about to become a WebSocket.
type upgradeConn struct {
	net.Conn
	upgrade func(request []byte)
}

func (c *upgradeConn) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, []byte("GET /api/v2/run_plan ")) {
		c.upgrade(b)
	}
	return c.Conn.Write(b)
}

// upgrades calls f with both ends of each connection on which a WebSocket is asked for,
// before it is.
func (w *world) upgrades(f func(client, server *memnet.Conn, request []byte)) {
	var ends sync.Map // the server's by the client's
	w.Network().OnDial = func(client, server *memnet.Conn) { ends.Store(client, server) }
	w.client.Transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := w.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		client := conn.(*memnet.Conn)
		server, _ := ends.Load(client)
		return &upgradeConn{conn, func(request []byte) { f(client, server.(*memnet.Conn), request) }}, nil
	}
}

var events = request("many_events", `{"n":3,"delay":0.1}`)

// a cut is where the connection of a WebSocket ends.
type socketCut struct {
	up    bool // on the client's side
	after int  // how many bytes that were sent after the upgrade was asked for
	end   error
}

func (c socketCut) String() string {
	what := map[error]string{nil: "in silence", io.EOF: "by an end", syscall.ECONNRESET: "by a reset"}[c.end]
	if c.up {
		return fmt.Sprintf("cut %s after %d bytes of the client", what, c.after)
	}
	return fmt.Sprintf("cut %s after %d bytes of the server", what, c.after)
}

func (c socketCut) make(client, server *memnet.Conn, request []byte) {
	if c.up {
		client.CutAfter(len(request)+c.after, c.end)
	} else {
		server.CutAfter(c.after, c.end)
	}
}

// socketSpan is more than what is sent in a run: by the client, and by the server.
const (
	upSpan   = 200
	downSpan = 6500
)

// TestWebSocketCut cuts the connection after each byte of a run, in each way, with plans
// that send documents and that do not.
func TestWebSocketCut(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	for _, req := range []blueapi.TaskRequest{events, nap} {
		for _, end := range []error{nil, io.EOF, syscall.ECONNRESET} {
			words := make(map[string]int)
			for n := range upSpan + downSpan {
				cut := socketCut{n < upSpan, n, end}
				if !cut.up {
					cut.after -= upSpan
				}
				if !everything() && rng.IntN(100) != 0 && n%upSpan > 3 {
					continue
				}
				synctest.Test(t, func(t *testing.T) { words[cutRun(t, req, cut)]++ })
			}
			t.Logf("%s, %v: %v", req.Name, end, words)
			if words["unknown"] == 0 || words["done"] == 0 {
				t.Errorf("%s, %v: %v", req.Name, end, words)
			}
		}
	}
}

func cutRun(t *testing.T, req blueapi.TaskRequest, cut socketCut) string {
	t.Helper()
	w := newWorld(t)
	w.Network().Latency = time.Millisecond
	n := 0
	w.upgrades(func(client, server *memnet.Conn, request []byte) {
		if n++; n == 1 {
			cut.make(client, server, request)
		}
	})
	var told socketNotes
	told.attach(w.client)
	begin := time.Now()
	result, err := w.client.RunWebSocket(t.Context(), req)
	if took := time.Since(begin); took > 2*time.Minute {
		t.Errorf("%v: took %v", cut, took)
	}
	w.truth(t, cut.String(), result, err)
	runs := w.Runs()
	named := len(told.events) > 0
	switch {
	case named && result.Word != blueapi.Done:
		t.Errorf("%v: the server named the task, and the word is %v: %v", cut, result.Word, err)
	case result.Word == blueapi.Done && runs[0].Aborted != (result.Reason == blueapi.NotRecorded):
		t.Errorf("%v: aborted: %v, reason %d", cut, runs[0].Aborted, result.Reason)
	case result.Word == blueapi.Unknown && len(runs) == 1:
		unnamed, _ := errors.AsType[*blueapi.UnnamedError](err)
		if unnamed == nil || len(unnamed.Tasks) != 1 || unnamed.Tasks[0].ID != runs[0].TaskID {
			t.Errorf("%v: %v", cut, err)
		}
	}
	if last := len(told.notes) - 1; told.notes[last][:5] != "ended" {
		t.Errorf("%v: told %v", cut, told.notes)
	}
	return result.Word.String()
}

// TestWebSocketOutage has an outage of a second, of each kind, begin at each moment of a
// run. It aborts the plan, or not; it never makes it run twice, or the word untrue.
func TestWebSocketOutage(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 6))
	for _, o := range outages() {
		words := make(map[string]int)
		for at := -1100 * time.Millisecond; at < 450*time.Millisecond; at += time.Millisecond {
			if !everything() && rng.IntN(80) != 0 {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.Network().Latency = time.Millisecond
				over := make(chan struct{})
				go func() {
					defer close(over)
					time.Sleep(2*time.Second + at)
					o.begin(w)
					time.Sleep(time.Second)
					o.end(w)
				}()
				time.Sleep(2 * time.Second)
				result, err := w.client.RunWebSocket(t.Context(), events)
				<-over
				what := fmt.Sprintf("%s from %v", o.name, at)
				w.truth(t, what, result, err)
				if at <= -time.Second && (result.Word != blueapi.Done || result.Reason != blueapi.Ended) {
					t.Errorf("%s: %v for reason %d: %v", what, result.Word, result.Reason, err)
				}
				words[result.Word.String()]++
			})
		}
		t.Logf("%s: %v", o.name, words)
	}
}

// TestWebSocketRival has another client run the same plan with the same parameters at the
// same time, while the connection is cut before, in or after the words that name the task.
func TestWebSocketRival(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 7))
	words := make(map[string]int)
	for after := range 700 {
		for at := -20 * time.Millisecond; at <= 20*time.Millisecond; at += 500 * time.Microsecond {
			if !everything() && rng.IntN(200) != 0 {
				continue
			}
			cut := socketCut{false, after, []error{nil, io.EOF, syscall.ECONNRESET}[rng.IntN(3)]}
			synctest.Test(t, func(t *testing.T) { words[rivalRun(t, cut, at)]++ })
		}
	}
	t.Log(words)
	if words["done"] == 0 || words["not started"] == 0 || words["unknown"] == 0 {
		t.Errorf("%v", words)
	}
}

func rivalRun(t *testing.T, cut socketCut, at time.Duration) string {
	t.Helper()
	w := newWorld(t)
	w.Network().Latency = time.Millisecond
	w.upgrades(cut.make)
	rival := w.newClient(t)
	theirs := make(chan blueapi.Result)
	go func() {
		time.Sleep(time.Second + at)
		result, _ := rival.Run(t.Context(), nap)
		theirs <- result
	}()
	time.Sleep(time.Second)
	result, err := w.client.RunWebSocket(t.Context(), nap)
	their := <-theirs
	time.Sleep(10 * time.Minute)
	var ours []sim.Run
	for _, run := range w.Runs() {
		if run.TaskID != their.TaskID {
			ours = append(ours, run)
		}
	}
	what := fmt.Sprintf("%v, rival at %v", cut, at)
	switch {
	case len(ours) > 1:
		t.Errorf("%s: the plan ran %d times", what, len(ours))
	case result.Word == blueapi.Done && (len(ours) != 1 || ours[0].TaskID != result.TaskID):
		t.Errorf("%s: done, but %d runs", what, len(ours))
	case result.Word == blueapi.NotStarted && len(ours) != 0, result.Word == 0:
		t.Errorf("%s: %v, but %d runs: %v", what, result.Word, len(ours), err)
	}
	if their.Reason == blueapi.Removed || their.Reason == blueapi.RecordLost {
		t.Errorf("%s: the rival's task was deleted: %v for reason %d", what, their.Word, their.Reason)
	}
	return result.Word.String()
}

// TestWebSocketCancel cancels a run at each moment. The call ends at once, and the plan,
// if it began, is aborted at its next event.
func TestWebSocketCancel(t *testing.T) {
	for at := time.Duration(0); at < 450*time.Millisecond; at += 500 * time.Microsecond {
		if !everything() && at > 30*time.Millisecond && at%(10*time.Millisecond) != 0 {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.Network().Latency = time.Millisecond
			var told socketNotes
			told.attach(w.client)
			ctx, cancel := context.WithTimeout(t.Context(), at)
			defer cancel()
			begin := time.Now()
			result, err := w.client.RunWebSocket(ctx, events)
			if took := time.Since(begin); took > at {
				t.Errorf("cancelled after %v, ended after %v", at, took)
			}
			w.truth(t, fmt.Sprint("cancelled after ", at), result, err)
			runs := w.Runs()
			switch result.Word {
			case blueapi.Done:
			case blueapi.NotStarted:
				if result.Reason != blueapi.Interrupted {
					t.Errorf("cancelled after %v: reason %d", at, result.Reason)
				}
			case blueapi.Unknown:
				if result.Reason != blueapi.Abandoned || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "aborts it") {
					t.Errorf("cancelled after %v: reason %d, %v", at, result.Reason, err)
				}
				if last := told.notes[len(told.notes)-1]; last[:5] == "ended" {
					t.Errorf("cancelled after %v: told %v", at, told.notes) // or nobody could attach to it
				}
				if len(runs) == 1 && !runs[0].Aborted && runs[0].Ended.Sub(runs[0].Began) < 300*time.Millisecond {
					t.Errorf("cancelled after %v: %+v", at, runs[0])
				}
			}
		})
	}
}

// TestWebSocketSlowStart: a server that has waited for a plan to begin for as long as it
// does closes the connection, and the plan runs (1.21.1).
func TestWebSocketSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		result, err := w.client.RunWebSocket(t.Context(), slowStart)
		w.truth(t, "slow start", result, err)
		unnamed, _ := errors.AsType[*blueapi.UnnamedError](err)
		if unnamed == nil || len(unnamed.Tasks) != 1 || unnamed.Tasks[0].Outcome == nil || len(w.Runs()) != 1 {
			t.Errorf("%v, %d runs", err, len(w.Runs()))
		}
	})
}

// TestWebSocketHolds: neither a server that stands still, nor one that can be connected to
// no more, nor an observer that takes its time costs the plan anything while the
// connection lives.
func TestWebSocketHolds(t *testing.T) {
	for name, disturb := range map[string]func(*world){
		"frozen": func(w *world) { w.Freeze(); time.Sleep(15 * time.Second); w.Unfreeze() },
		"stalled": func(w *world) {
			w.Network().Set(memnet.Stall)
			time.Sleep(15 * time.Second)
			w.Network().Set(memnet.Healthy)
		},
		"refused": func(w *world) {
			w.Network().Set(memnet.Refuse)
			time.Sleep(175 * time.Second)
			w.Network().Set(memnet.Healthy)
		},
		"502": func(w *world) { w.Inject(sim.Status(502)); time.Sleep(150 * time.Second); w.Heal() },
		"502 beyond the end": func(w *world) { // so that a look fails that began before the end, at 200 s
			w.Inject(sim.Status(502))
			time.Sleep(255 * time.Second)
			w.Heal()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var told socketNotes
				told.attach(w.client)
				go func() {
					time.Sleep(10 * time.Second)
					disturb(w)
				}()
				result, err := w.client.RunWebSocket(t.Context(), request("nap", `{"seconds":200}`))
				w.truth(t, name, result, err)
				if result.Word != blueapi.Done || result.Reason != blueapi.Ended {
					t.Errorf("%v for reason %d: %v", result.Word, result.Reason, err)
				}
				for _, e := range told.events {
					if e.Gap != nil {
						t.Errorf("gap: %v", e.Gap.Err)
					}
				}
			})
		})
	}
	t.Run("slow observer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			var told socketNotes
			told.attach(w.client)
			note := w.client.RunTrace.Event
			w.client.RunTrace.Event = func(e blueapi.Event) {
				if len(told.events)%200 == 0 {
					time.Sleep(50 * time.Second) // longer than the server waits for a pong
				}
				note(e)
			}
			result, err := w.client.RunWebSocket(t.Context(), request("many_events", `{"n":1000}`))
			w.truth(t, "slow observer", result, err)
			if result.Reason != blueapi.Ended || len(told.events) < 1005 {
				t.Errorf("%v for reason %d: %v; %d events", result.Word, result.Reason, err, len(told.events))
			}
		})
	})
}

// TestWebSocketSilence: a connection that says nothing any more is no reason to wait for
// it longer than for the plan.
func TestWebSocketSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Network().Latency = time.Millisecond
		var cut socketCut
		w.upgrades(func(client, server *memnet.Conn, request []byte) {
			cut = socketCut{false, 700, nil}
			cut.make(client, server, request)
		})
		result, err := w.client.RunWebSocket(t.Context(), request("nap", `{"seconds":20}`))
		ended := time.Now()
		w.truth(t, "silence", result, err)
		if lag := ended.Sub(w.Runs()[0].Ended); result.Reason != blueapi.Ended || lag > 2*time.Second {
			t.Errorf("%v for reason %d, %v after the plan's end: %v", result.Word, result.Reason, lag, err)
		}
	})
}

// TestWebSocketPause: a pause ends the session, and not the run.
func TestWebSocketPause(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, time.Minute} { // nor does leaving a paused plan abort it
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.Network().Latency = 2 * time.Millisecond
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w.client.RunTrace = &blueapi.RunTrace{Paused: func(string) {
				if after == 0 {
					cancel()
				} else {
					time.AfterFunc(after, cancel)
				}
			}}
			time.AfterFunc(time.Second, func() { _, _ = w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause}) })
			_, err := w.client.RunWebSocket(ctx, request("nap", `{"seconds":3}`))
			time.Sleep(time.Second)
			if state, _ := w.client.WorkerState(t.Context()); state != blueapi.StatePaused || strings.Contains(err.Error(), "aborts") {
				t.Errorf("left %v after a pause: %s, %v", after, state, err)
			}
		})
	}
	for _, verb := range []blueapi.Verb{blueapi.Resume, blueapi.Abort} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			var told socketNotes
			told.attach(w.client)
			go func() {
				time.Sleep(time.Second)
				_, _ = w.client.Control(t.Context(), blueapi.Command{Verb: blueapi.Pause})
				time.Sleep(5 * time.Minute)
				_, _ = w.client.Control(t.Context(), blueapi.Command{Verb: verb})
			}()
			begin := time.Now()
			result, err := w.client.RunWebSocket(t.Context(), request("nap", `{"seconds":3}`))
			if took := time.Since(begin); took < 5*time.Minute || result.Word != blueapi.Done || result.Reason != blueapi.NotRecorded {
				t.Errorf("%v for reason %d after %v: %v", result.Word, result.Reason, took, err)
			}
			w.truth(t, "pause", result, err)
			if last := told.events[len(told.events)-1]; last.Gap == nil || !last.Gap.Until.IsZero() {
				t.Errorf("nothing told that there are no more events: %+v", last)
			}
		})
	}
}

// TestWebSocketWeather joins a cut with two outages, another client that runs the same,
// one that deletes what it finds waiting, and a caller that may leave.
func TestWebSocketWeather(t *testing.T) {
	n := uint64(150)
	if everything() {
		n = 10000
	}
	words := make(map[string]int)
	for seed := range n {
		synctest.Test(t, func(t *testing.T) { words[weatherRun(t, seed)]++ })
	}
	t.Log(words)
	for _, word := range []blueapi.Word{blueapi.Done, blueapi.NotStarted, blueapi.Unknown} {
		if words[word.String()] == 0 {
			t.Errorf("%v", words)
		}
	}
}

func weatherRun(t *testing.T, seed uint64) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 8))
	moment := func(most time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(most))) }
	w := newWorld(t)
	w.Network().Latency = time.Millisecond
	w.upgrades(socketCut{rng.IntN(4) == 0, rng.IntN(700), []error{nil, io.EOF, syscall.ECONNRESET}[rng.IntN(3)]}.make)
	var others sync.WaitGroup
	kinds := outages()
	for range rng.IntN(3) {
		o, at, lasts := kinds[rng.IntN(len(kinds))], moment(4*time.Second), moment(5*time.Second)
		others.Go(func() {
			time.Sleep(at)
			o.begin(w)
			time.Sleep(lasts)
			o.end(w)
		})
	}
	rival, their := w.newClient(t), make(map[string]bool)
	rival.RunTrace = &blueapi.RunTrace{Submitted: func(task string) { their[task] = true }}
	if rng.IntN(2) == 0 {
		at := moment(3 * time.Second)
		others.Go(func() {
			time.Sleep(at)
			_, _ = rival.Run(t.Context(), nap)
		})
	}
	if rng.IntN(4) == 0 {
		at, tidy := moment(10*time.Second), w.newClient(t)
		others.Go(func() {
			time.Sleep(at)
			tasks, _ := tidy.Tasks(t.Context(), blueapi.TaskPending)
			for _, task := range tasks {
				_ = tidy.DeleteTask(t.Context(), task.ID)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if rng.IntN(4) == 0 {
		time.AfterFunc(time.Second+moment(10*time.Second), cancel)
	}
	time.Sleep(time.Second)
	result, err := w.client.RunWebSocket(ctx, nap)
	others.Wait()
	w.Heal()
	w.Network().Set(memnet.Healthy)
	time.Sleep(10 * time.Minute)
	var ours []sim.Run
	for _, run := range w.Runs() {
		if !their[run.TaskID] {
			ours = append(ours, run)
		}
	}
	switch {
	case len(ours) > 1:
		t.Errorf("seed %d: the plan ran %d times", seed, len(ours))
	case result.Word == blueapi.Done && (len(ours) != 1 || ours[0].TaskID != result.TaskID || err != nil):
		t.Errorf("seed %d: done, but %d runs", seed, len(ours))
	case result.Word == blueapi.NotStarted && len(ours) != 0, result.Word == 0:
		t.Errorf("seed %d: %v, but %d runs: %v", seed, result.Word, len(ours), err)
	}
	return result.Word.String()
}
