package sim_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// documents are the documents that have come, by kind, and progress by the name of
// what moves.
func (l *listener) documents() (docs map[string][]json.RawMessage, moves map[string][]blueapi.Move) {
	l.t.Helper()
	docs, moves = make(map[string][]json.RawMessage), make(map[string][]blueapi.Move)
	for {
		ctx, cancel := context.WithTimeout(l.t.Context(), time.Millisecond)
		e, err := l.Next(ctx)
		cancel()
		switch {
		case err != nil:
			return docs, moves
		case e.Data != nil:
			docs[e.Data.Name] = append(docs[e.Data.Name], e.Data.Doc)
		case e.Progress != nil:
			for _, m := range e.Progress.Moves {
				moves[m.Name] = append(moves[m.Name], m)
			}
		}
	}
}

// TestOwnDocuments: a plan in Go opens a run, moves something, measures, and leaves
// the end of its run to the run engine.
func TestOwnDocuments(t *testing.T) {
	measure := sim.Plan{Name: "measure", Run: func(ctx context.Context, _ sim.Args) (any, error) {
		if err := sim.OpenRun(ctx, map[string]any{"purpose": "test", "plan_name": "other"}); err != nil {
			return nil, err
		}
		if err := sim.Move(ctx, sim.Motion{Name: "theta", To: 3, Unit: "deg", Takes: 450 * time.Millisecond}); err != nil {
			return nil, err
		}
		for i := range 2 {
			if err := sim.Emit(ctx, sim.Reading{Name: "theta", Value: 3}, sim.Reading{Name: "signal", Value: float64(i) / 2}); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}}
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &sim.Server{Plans: []sim.Plan{measure}})
		heard := l.listen()
		begun := time.Now()
		l.starts("measure", `{}`)
		time.Sleep(time.Second)
		docs, moves := heard.documents()
		if r := l.Runs()[0]; r.Ended.Sub(begun).Round(10*time.Millisecond) != 450*time.Millisecond {
			t.Errorf("it took %v", r.Ended.Sub(begun))
		}
		theta := moves["theta"] // told of at 0, four times in between, and at the end
		if n := len(theta); n != 6 || *theta[5].Current != 3 || *theta[0].Current != 0 || theta[5].Unit != "deg" || len(moves["UNKNOWN"]) != 1 {
			t.Errorf("%d: %+v", n, theta)
		}
		for kind, want := range map[string]struct {
			n     int
			holds string
		}{
			"start":      {1, `"plan_name":"other","purpose":"test"`},
			"descriptor": {1, `"object_keys":{"theta":["theta"],"signal":["signal"]}`},
			"event":      {2, `"data":{"theta":3.0,"signal":0.5}`},
			"stop":       {1, `"exit_status":"success","reason":"","num_events":{"primary":2}`},
		} {
			if got := docs[kind]; len(got) != want.n || !strings.Contains(string(got[want.n-1]), want.holds) {
				t.Errorf("%s: %s, expected %s", kind, got, want.holds)
			}
		}
	})
}

// TestOwnRunEnds: what the run engine says at the end of a run that the plan has not
// closed.
func TestOwnRunEnds(t *testing.T) {
	open := func(end func(context.Context) error) sim.Plan {
		return sim.Plan{Name: "open", Run: func(ctx context.Context, _ sim.Args) (any, error) {
			return nil, errors.Join(sim.Emit(ctx, sim.Reading{Name: "x"}), end(ctx))
		}}
	}
	sleep := func(ctx context.Context) error { return sim.Sleep(ctx, time.Minute) }
	for _, tt := range []struct {
		name, change string
		end          func(context.Context) error
		want         string
	}{
		{"fails", "", func(context.Context) error { return &sim.PlanError{Type: "ValueError", Message: "boom"} }, `"exit_status":"fail","reason":"boom"`},
		{"is closed", "", sim.CloseRun, `"exit_status":"success","reason":""`},
		{"aborted", `{"new_state":"ABORTING","reason":"because"}`, sleep, `"exit_status":"abort","reason":"because"`},
		{"aborted without a reason", abort, sleep, `"exit_status":"abort","reason":"Task failed for unknown reason"`},
		{"stopped", `{"new_state":"STOPPING","reason":"because"}`, sleep, `"exit_status":"success","reason":""`},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, &sim.Server{Plans: []sim.Plan{open(tt.end)}})
			heard := l.listen()
			l.starts("open", `{}`)
			if tt.change != "" {
				l.change(tt.change)
			}
			time.Sleep(time.Second)
			docs, _ := heard.documents()
			if got := docs["stop"]; len(got) != 1 || !strings.Contains(string(got[0]), tt.want) {
				t.Errorf("%s: %s, expected %s", tt.name, got, tt.want)
			}
		})
	}
}

// TestOutOfOrder: a run within a run, and the end of none.
func TestOutOfOrder(t *testing.T) {
	for _, do := range []func(context.Context) error{
		func(ctx context.Context) error {
			return errors.Join(sim.OpenRun(ctx, nil), sim.OpenRun(ctx, nil))
		},
		sim.CloseRun,
	} {
		plan := sim.Plan{Name: "confused", Run: func(ctx context.Context, _ sim.Args) (any, error) { return nil, do(ctx) }}
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, &sim.Server{Plans: []sim.Plan{plan}})
			id := l.starts("confused", `{}`)
			time.Sleep(time.Second)
			if o := l.task(id).Outcome; o.Type != "IllegalMessageSequence" {
				t.Errorf("%+v", o)
			}
		})
	}
}

// TestOutsideOfPlans: the functions for plans do nothing anywhere else.
func TestOutsideOfPlans(t *testing.T) {
	ctx := t.Context()
	if err := errors.Join(sim.OpenRun(ctx, nil), sim.Emit(ctx), sim.CloseRun(ctx), sim.Move(ctx, sim.Motion{To: 1})); err != nil {
		t.Error(err)
	}
}

func BenchmarkManyEvents(b *testing.B) {
	for _, heard := range []bool{false, true} {
		b.Run(map[bool]string{false: "unheard", true: "heard"}[heard], func(b *testing.B) {
			benchmarkEvents(b, heard)
		})
	}
}

func benchmarkEvents(b *testing.B, heard bool) {
	done := make(chan struct{})
	s := sim.Server{Plans: []sim.Plan{{Name: "bench", Run: func(ctx context.Context, _ sim.Args) (any, error) {
		defer close(done)
		b.ResetTimer()
		for range b.N {
			if err := errors.Join(sim.Checkpoint(ctx), sim.Emit(ctx, sim.Reading{Name: "x", Value: 1})); err != nil {
				b.Error(err)
				return nil, err
			}
		}
		b.StopTimer()
		return nil, nil
	}}}}
	defer s.Close()
	if heard {
		listen := (&blueapi.Broker{Address: "broker:61613", Dial: s.DialBroker}).Listen(b.Context())
		defer listen.Close()
		if err := listen.Subscribed(b.Context()); err != nil {
			b.Fatal(err)
		}
		go func() {
			for {
				if _, err := listen.Next(b.Context()); err != nil {
					return
				}
			}
		}()
	}
	g := newTarget(b, "http://blueapi.example", func(ctx context.Context) (net.Conn, error) { return s.DialContext(ctx, "tcp", "") }, nil)
	g.start("bench", `{}`)
	<-done
}

// TestCountSays: numbers of a count are in its start document as its parameters have
// them.
func TestCountSays(t *testing.T) {
	inLab(t, func(l *lab) {
		heard := l.listen()
		l.starts("count", `{"detectors":["stage"],"num":2,"delay":[1]}`)
		time.Sleep(2 * time.Second)
		docs, _ := heard.documents()
		if want := `"num":2,"delay":[1.0]`; len(docs["start"]) != 1 || !strings.Contains(string(docs["start"][0]), want) {
			l.t.Errorf("%s, expected %s", docs["start"], want)
		}
	})
}
