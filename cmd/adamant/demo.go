package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/retry"
)

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show what happens to a plan when the network fails, on a simulated server",
		Long: `Show what happens to a plan when the network fails.

A simulated blueapi server runs inside this program, its network is broken on
purpose, and the same plans are run by a client without retries, by one with
plain retries, and by adamant. Nothing is needed for it, and nothing is left.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			err := demo(cmd.Context(), a.ui.out)
			if cmd.Context().Err() != nil {
				return endOfInterrupt(a.ui.voice)
			}
			return err
		},
	}
}

// demoScene is one simulated server in the demo.
type demoScene struct {
	server sim.Server
	client *blueapi.Client
	plain  *http.Client
}

func newDemoScene() *demoScene {
	s := new(demoScene)
	base := &http.Transport{DialContext: s.server.DialContext}
	s.client = &blueapi.Client{Transport: base}
	s.plain = &http.Client{Transport: base.Clone()}
	return s
}

func (s *demoScene) close() {
	s.client.Close()
	s.plain.CloseIdleConnections()
	s.server.Close()
}

// runs is how often plans really ran on the server.
func (s *demoScene) runs() string {
	if n := len(s.server.Runs()); n != 1 {
		return fmt.Sprintf("ran %d times", n)
	}
	return "ran once"
}

// fault is an outage that the demo shows.
type fault struct {
	what string
	sim.Fault
}

// newFaults are the outages of the demo: before the first request, at the one
// that starts the plan, and in mid-plan.
func newFaults() []fault {
	anything := sim.Request("*", "/*")
	return []fault{
		{"a proxy says 503 for 0.9 s before anything was asked", sim.When(anything, lasting(900*time.Millisecond, sim.Status(503)))},
		{"the answer to the request that starts the plan is lost", sim.When(sim.Request("PUT", "/worker/task"), sim.First(1, sim.LoseAnswer(sim.Reset)))},
		{"connections are reset for 0.8 s in mid-plan", after(8, lasting(800*time.Millisecond, sim.LoseRequest(sim.Reset)))},
	}
}

// lasting applies a fault from the first request on for d.
func lasting(d time.Duration, f sim.Fault) sim.Fault {
	var end time.Time
	var once sync.Once
	return func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		once.Do(func() { end = x.Time.Add(d) })
		if x.Time.After(end) {
			return next()
		}
		return f(x, next)
	}
}

// after applies a fault once k requests have passed.
func after(k int, f sim.Fault) sim.Fault {
	return func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		if x.N <= k {
			return next()
		}
		return f(x, next)
	}
}

const demoPlan, demoParams = "nap", `{"seconds":2}`

func demo(ctx context.Context, out io.Writer) error {
	stalls := startInStalls(ctx) // takes its time, meanwhile the rest is shown
	fmt.Fprintln(out, "A simulated blueapi server, a plan of 2 s, and a network that fails.")
	if err := demoPlain(ctx, out); err != nil {
		return err
	}
	if err := demoAdamant(ctx, out); err != nil {
		return err
	}
	return stalls(out)
}

// demoPlain shows what a client without retries sees of each outage.
func demoPlain(ctx context.Context, out io.Writer) error {
	fmt.Fprintln(out, "\nA client without retries:")
	for _, f := range newFaults() {
		s := newDemoScene()
		s.server.Inject(f.Fault)
		err := s.runPlain(ctx)
		pause(ctx, 100*time.Millisecond) // the plan may have been started all the same
		fmt.Fprintf(out, "  %s\n    error: %v; the plan %s\n", f.what, err, s.runs())
		s.close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// demoAdamant runs one plan through all of the outages.
func demoAdamant(ctx context.Context, out io.Writer) error {
	fmt.Fprintln(out, "\nadamant, all three in one run:")
	s := newDemoScene()
	defer s.close()
	for _, f := range newFaults() {
		s.server.Inject(f.Fault)
	}
	begun := time.Now()
	line := func(format string, args ...any) {
		fmt.Fprintf(out, "  %4.1f s  %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
	}
	s.client.Trace = &retry.Trace{Attempted: func(_ context.Context, a retry.AttemptInfo, r retry.Record) {
		switch {
		case r.Err != nil && a.Of > 0:
			line("%s: attempt %d of %d: %v", a.Op, a.Number, a.Of, r.Err)
		case r.Err != nil:
			line("%s: attempt %d: %v", a.Op, a.Number, r.Err)
		case a.Number > 1:
			line("%s: answered at attempt %d", a.Op, a.Number)
		}
	}}
	s.client.RunTrace = &blueapi.RunTrace{
		Looking: func(string, error) { line("was the plan started? not asking again, looking") },
		Started: func(string) { line("the plan runs") },
	}
	result, err := s.client.Run(ctx, blueapi.TaskRequest{Name: demoPlan, Params: json.RawMessage(demoParams), InstrumentSession: "cm12345-1"})
	if err != nil {
		return err
	}
	line("%v: the plan ended in %s, and %s", result.Word, result.Outcome.Kind, s.runs())
	return nil
}

// runPlain runs a plan as simple clients do: store it, start it, poll it, and
// give up at the first error.
func (s *demoScene) runPlain(ctx context.Context) error {
	id, err := s.submitPlain(ctx, demoPlan, demoParams)
	if err != nil {
		return err
	}
	if err := s.putPlain(ctx, id); err != nil {
		return err
	}
	for {
		var task blueapi.Task
		if err := s.ask(ctx, http.MethodGet, "/tasks/"+id, "", &task); err != nil || task.IsComplete {
			return err
		}
		pause(ctx, 100*time.Millisecond)
	}
}

func (s *demoScene) submitPlain(ctx context.Context, plan, params string) (string, error) {
	var answer struct {
		ID string `json:"task_id"`
	}
	err := s.ask(ctx, http.MethodPost, "/tasks", fmt.Sprintf(`{"name":%q,"params":%s,"instrument_session":"cm12345-1"}`, plan, params), &answer)
	return answer.ID, err
}

func (s *demoScene) putPlain(ctx context.Context, id string) error {
	return s.ask(ctx, http.MethodPut, "/worker/task", fmt.Sprintf(`{"task_id":%q}`, id), nil)
}

func (s *demoScene) ask(ctx context.Context, method, path, body string, answer any) error {
	r, err := http.NewRequestWithContext(ctx, method, blueapi.DefaultURL+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.plain.Do(r)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // without the URL
		}
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// slowPlan is a plan that takes longer to start than the server waits for it.
const slowPlan, slowParams = "slow_start", `{"seconds":5.1}`

const (
	stallTries = 10
	stallTime  = 2 * time.Second
)

// startInStalls plays, in the background, why plain retries are not the answer:
// the server stands still for a moment as a plan is started that is slow to
// start. Whether two requests then start it twice is a matter of luck, so it is
// done several times. It returns a function that waits for the end and shows it.
func startInStalls(ctx context.Context) func(io.Writer) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var plain, ours []int // runs, by try
	try := func(runs *[]int, start func(*demoScene)) {
		all.Go(func() {
			s := newDemoScene()
			defer s.close()
			s.server.Inject(sim.When(sim.Request("PUT", "/worker/task"), sim.First(1, sim.Stall(stallTime))))
			start(s)
			mu.Lock()
			defer mu.Unlock()
			*runs = append(*runs, len(s.server.Runs()))
		})
	}
	for range stallTries {
		try(&plain, func(s *demoScene) { s.resend(ctx) })
		try(&ours, func(s *demoScene) {
			_, _ = s.client.Run(ctx, blueapi.TaskRequest{
				Name: slowPlan, Params: json.RawMessage(slowParams), InstrumentSession: "cm12345-1",
			}) // what counts is what the server did
		})
	}
	return func(out io.Writer) error {
		fmt.Fprintf(out, "\nA server stands still for %v while a plan is started that needs 5.1 s to begin, %d times:\n", stallTime, stallTries)
		all.Wait()
		if err := ctx.Err(); err != nil {
			return err
		}
		fmt.Fprintf(out, "  sending the request again after 1 s of silence: the plan ran %s\n", tally(plain))
		fmt.Fprintf(out, "  adamant:                                        the plan ran %s\n", tally(ours))
		return nil
	}
}

// resend starts a plan as a client with plain retries does, and waits until all
// that it has started has begun.
func (s *demoScene) resend(ctx context.Context) {
	id, err := s.submitPlain(ctx, slowPlan, slowParams)
	if err != nil {
		return
	}
	var puts sync.WaitGroup
	for i := range 2 {
		puts.Go(func() {
			pause(ctx, time.Duration(i)*time.Second)
			_ = s.putPlain(ctx, id)
		})
	}
	puts.Wait()
	pause(ctx, 5300*time.Millisecond) // a second run begins after the first
}

// tally words how often plans ran.
func tally(runs []int) string {
	times := map[int]int{}
	for _, n := range runs {
		times[n]++
	}
	var words []string
	for _, n := range slices.Sorted(maps.Keys(times)) {
		words = append(words, fmt.Sprintf("%s in %d of %d", []string{"never", "once", "twice"}[min(n, 2)], times[n], len(runs)))
	}
	return strings.Join(words, ", ")
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
