//go:build linux && realserver

package realserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// quick is a plan that is over in some milliseconds, and the documents that it sends.
var quick = plan{"many_events", map[string]any{"n": 3}}

const quickDocuments = 6 // start, descriptor, three events, stop

// hanging is how long a program hangs that has to be killed. On a busy machine the
// Python client needs ten seconds to start.
const hanging = 40 * time.Second

// occupy keeps two cores busy until the test ends.
func occupy(t *testing.T) {
	t.Helper()
	for range 2 {
		loop := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
		if err := loop.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = loop.Process.Kill()
			_ = loop.Wait() // it was killed
		})
	}
}

// times are how long things took.
type times []time.Duration

func (ts times) String() string {
	if len(ts) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(ts))
	return fmt.Sprintf("%.2f s, %.2f s", sorted[len(sorted)/2].Seconds(), sorted[len(sorted)-1].Seconds())
}

// TestPromise5Instant runs a plan that is over at once, many times, on a busy machine:
// each run ends, and has all documents or says that there may be more. The Python
// client, which does not know when it is subscribed, is run beside it with OUTAGES=all.
func TestPromise5Instant(t *testing.T) {
	s := theServer(t)
	s.clear(t)
	inProcess, programs, pythons := 100, 5, 0
	if every, _, _ := choice(t); every {
		inProcess, programs, pythons = 1000, 50, 50
	}
	occupy(t)
	fmt.Fprintf(os.Stdout, "\n| %v, on a busy machine | runs | ended well | hung for %v | all documents | a gap was said | median, longest |\n|---|---|---|---|---|---|---|\n", quick.name, hanging)
	fmt.Fprintln(os.Stdout, s.instantRuns(t, inProcess))
	fmt.Fprintln(os.Stdout, s.instantPrograms(t, "adamant run", programs, true))
	if pythons > 0 {
		fmt.Fprintln(os.Stdout, s.instantPrograms(t, "blueapi controller run", pythons, false))
	}
	fmt.Fprintln(os.Stdout)
	s.settle(t)
}

// instantRuns runs the plan n times through one client.
func (s *Server) instantRuns(t *testing.T, n int) string {
	t.Helper()
	documents, gaps, ends := 0, 0, 0
	c := &blueapi.Client{
		URL:    s.URL,
		Broker: &blueapi.Broker{Address: hostport(s.STOMP), Login: "guest", Passcode: "guest"},
		RunTrace: &blueapi.RunTrace{Event: func(e blueapi.Event) {
			switch {
			case e.Data != nil:
				documents++
			case e.Gap != nil:
				gaps++
			case e.Worker != nil && e.Worker.Task.Complete:
				ends++
			}
		}, Blind: func(err error) { t.Errorf("blind: %v", err) }},
	}
	defer c.Close()
	var took times
	well, hung, whole, said := 0, 0, 0, 0
	for k := range n {
		documents, gaps, ends = 0, 0, 0
		ctx, cancel := context.WithTimeout(t.Context(), hanging)
		begin := time.Now()
		result, err := c.Run(ctx, blueapi.TaskRequest{Name: quick.name, Params: []byte(quick.json()), InstrumentSession: "cm12345-1"})
		took = append(took, time.Since(begin))
		if ctx.Err() != nil {
			hung++
		}
		cancel()
		if err == nil && result.Word == blueapi.Done && result.Outcome != nil && result.Outcome.Kind == "success" {
			well++
		} else {
			t.Errorf("run %d: %v, %v", k, result, err)
		}
		if documents == quickDocuments && ends == 1 {
			whole++
		} else if gaps == 0 {
			t.Errorf("run %d: %d documents, %d end events, and no gap", k, documents, ends)
		}
		if gaps > 0 {
			said++
		}
	}
	return fmt.Sprintf("| blueapi.Client.Run | %d | %d | %d | %d | %d | %v |", n, well, hung, whole, said, took)
}

// instantPrograms runs the plan n times by a program.
func (s *Server) instantPrograms(t *testing.T, name string, n int, sound bool) string {
	t.Helper()
	var took times
	well, hung, whole := 0, 0, 0
	for k := range n {
		args := []string{s.CLI, "-c", s.ClientConfig, "controller", "run", "-i", "cm12345-1", quick.name, quick.json()}
		if sound {
			bin, err := build()
			if err != nil {
				t.Fatal(err)
			}
			args = []string{bin, "-c", s.ClientConfig, "run", "-i", "cm12345-1", quick.name, quick.json()}
		}
		e := execute(t, hanging, args)
		took = append(took, e.took)
		switch {
		case e.exit == -1:
			hung++
		case e.exit == 0 && strings.Contains(e.stdout, "Plan succeeded: 3"):
			well++
		}
		if strings.Count(e.stdout, "0.000 |") >= 6 { // two motors in three rows of the table
			whole++
		}
		if sound && e.exit != 0 {
			t.Errorf("run %d: %v", k, e)
		}
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %d | - | %v |", name, n, well, hung, whole, took)
}
