package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/stomp"
)

// crash is a moment at which the program is killed, and what befalls the message that
// it has to do with.
type crash struct {
	name string
	// args is the command line, without the server.
	args []string
	// arm has the program killed: kill returns when it is dead.
	arm func(s *sim.Server, kill func())
}

// dying is a program of this binary: a run that is killed at a step of its journal.
//
//	dying URL PARAMS STEP before|after
//
// STEP counts from 1. With PARAMS the first request to start the task finds no
// connection, so that there are two entries that begin it.
func dying() {
	a := &app{ui: newUI(os.Stdin, os.Stdout, os.Stderr), host: os.Args[1]}
	ctx := context.Background()
	c, err := a.client()
	if err != nil {
		panic(err)
	}
	j, err := a.openJournal(ctx, c, journalOptions{})
	if err != nil {
		panic(err)
	}
	step, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	last := &lastStep{Journal: j, step: step, before: os.Args[4] == "before"}
	c.Journal, c.Transport = last, last.transport()
	request := blueapi.TaskRequest{Name: "nap", Params: json.RawMessage(os.Args[2]), InstrumentSession: "cm12345-1"}
	_, _ = c.Run(ctx, request)
}

// lastStep is a journal that kills the program before or after one of its entries. A
// dial after the first entry that begins a task fails.
type lastStep struct {
	blueapi.Journal
	step, n int
	before  bool
	refuse  bool
}

func (l *lastStep) Record(ctx context.Context, e blueapi.Entry) error {
	l.n++
	if l.n == l.step && l.before {
		die()
	}
	err := l.Journal.Record(ctx, e)
	if l.n == l.step {
		die()
	}
	l.refuse = e.Step == blueapi.StepStarting && l.n == 2
	return err
}

func (l *lastStep) transport() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if l.refuse {
			l.refuse = false
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// crashes are all moments: before and after each entry of the journal, and at each
// message of a run with events.
func crashes() (all []crash) {
	const steps = 6 // intent, starting, not sent, starting, started, ended
	for step := 1; step <= steps; step++ {
		for _, when := range []string{"before", "after"} {
			all = append(all, crash{
				name: fmt.Sprintf("%s entry %d", when, step),
				args: []string{"dying", `{"seconds":0.3}`, strconv.Itoa(step), when},
				arm:  func(*sim.Server, func()) {},
			})
		}
	}
	run := []string{"adamant", "run", "many_events", "n=2", "delay=0.1", "-i", "cm12345-1"}
	for k := 1; k <= 7; k++ { // plan, environment, task, environment, start, looks
		for name, f := range mishaps() {
			all = append(all, crash{
				name: fmt.Sprintf("request %d %s", k, name),
				args: run,
				arm: func(s *sim.Server, kill func()) {
					s.Inject(sim.Nth(k, func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
						return f(x, next, kill)
					}))
				},
			})
		}
	}
	for k := 1; k <= 12; k++ { // CONNECT, CONNECTED, SUBSCRIBE, RECEIPT, events
		all = append(all, crash{
			name: fmt.Sprintf("broker frame %d", k),
			args: run,
			arm: func(s *sim.Server, kill func()) {
				s.InjectBroker(stomp.When(ofClient, stomp.Nth(k, func(p *stomp.Passage, next func(*stomp.Frame)) {
					kill()
					next(p.Frame)
				})))
			},
		})
	}
	return all
}

// ofClient matches the frames between a client and the broker. The server, which says
// STOMP and sends, has none.
func ofClient(p *stomp.Passage) bool {
	if p.Frame == nil {
		return false
	}
	switch p.Frame.Command {
	case "CONNECT", "SUBSCRIBE", "RECEIPT", "MESSAGE":
		return true
	}
	return false
}

// mishap is what becomes of a request at which the program is killed.
type mishap func(x *sim.Exchange, next func() sim.Answer, kill func()) sim.Answer

func mishaps() map[string]mishap {
	late := func(d time.Duration) mishap {
		return func(x *sim.Exchange, next func() sim.Answer, kill func()) sim.Answer {
			kill()
			return sim.Late(d, sim.Reset)(x, next)
		}
	}
	return map[string]mishap{
		"lost": func(_ *sim.Exchange, _ func() sim.Answer, kill func()) sim.Answer {
			kill()
			return sim.Answer{End: sim.Reset}
		},
		"served": func(_ *sim.Exchange, next func() sim.Answer, kill func()) sim.Answer {
			kill()
			return next()
		},
		"answered": func(_ *sim.Exchange, next func() sim.Answer, kill func()) sim.Answer {
			a := next()
			kill()
			return a
		},
		"late 1 s":  late(time.Second),
		"late 5 s":  late(5 * time.Second),
		"late 9 s":  late(9 * time.Second),
		"late 20 s": late(20 * time.Second),
	}
}

// TestCrash kills the program at any moment of a run and comes back to it: the plan
// ran once at most, and what is said and recorded of it is true.
func TestCrash(t *testing.T) {
	t.Parallel()
	all := crashes()
	if os.Getenv("ADAMANT_SWEEP") != "all" {
		rng := rand.New(rand.NewPCG(5, 1))
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = slices.DeleteFunc(all, func(c crash) bool { return strings.Contains(c.name, "20 s") })[:16]
	}
	var mu sync.Mutex
	words := map[string]int{}
	t.Cleanup(func() { t.Logf("%d crashes, then attached: %v", len(all), words) })
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			word := c.test(t)
			mu.Lock()
			defer mu.Unlock()
			words[word]++
		})
	}
}

func (c crash) test(t *testing.T) (word string) {
	var s sim.Server
	t.Cleanup(s.Close)
	at, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broker, err := s.ListenBroker("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "client.yaml")
	text := fmt.Sprintf("api:\n  url: http://%s\nstomp:\n  enabled: true\n  url: tcp://%s\n", at, broker)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), quickExit, "HOME="+dir, "XDG_STATE_HOME="+dir)

	args := slices.Insert(slices.Clone(c.args), 1, "-c", config)
	if args[0] == "dying" {
		args = slices.Insert(slices.Clone(c.args), 1, "http://"+at)
	}
	doomed := exec.CommandContext(t.Context(), args[0], args[1:]...)
	doomed.Env = env
	started, dead := make(chan struct{}), make(chan struct{})
	c.arm(&s, sync.OnceFunc(func() {
		<-started
		_ = doomed.Process.Kill()
		<-dead
	}))
	var said bytes.Buffer
	doomed.Stderr = &said
	if err := doomed.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	_ = doomed.Wait()
	close(dead)
	died := time.Now()
	if status, ok := doomed.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Fatalf("was not killed: %v: %s", doomed.ProcessState, &said)
	}

	// Whoever comes back twice learns the same.
	var first string
	for range 2 {
		attach := exec.CommandContext(t.Context(), "adamant", "-c", config, "attach")
		attach.Env = env
		out, _ := attach.CombinedOutput()
		if first += fmt.Sprintf("attach: exit status %d: %s", attach.ProcessState.ExitCode(), out); attach.ProcessState.ExitCode() < 0 {
			t.Errorf("attach: %v", attach.ProcessState)
		}
	}
	if late, ok := strings.CutSuffix(c.name, " s"); ok { // what is late is to arrive
		d, err := strconv.Atoi(late[strings.LastIndex(late, " ")+1:])
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(died.Add(time.Duration(d+1) * time.Second)))
	}
	runs := s.Runs()
	word = "nothing was recorded"
	list := exec.CommandContext(t.Context(), "adamant", "-c", config, "history", "-o", "json")
	list.Env = env
	b, err := list.Output()
	var history []struct{ Word, Reason string }
	if err == nil && len(b) > 0 {
		err = json.Unmarshal(b, &history)
	}
	if err != nil || len(history) > 1 {
		t.Fatalf("history: %v: %s", err, b)
	}
	if len(history) > 0 {
		word = history[0].Word
	}
	wrong := ""
	switch {
	case len(runs) > 1:
		wrong = fmt.Sprintf("the plan ran %d times", len(runs))
	case len(runs) == 1 && word != "done":
		wrong = "the plan ran"
	case len(runs) == 0 && word != "not started" && word != "nothing was recorded":
		wrong = "the plan did not run"
	}
	if wrong != "" {
		t.Errorf("%s; history: %s\n%s", wrong, b, first)
	}
	return word
}
