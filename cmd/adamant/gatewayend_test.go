package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

// TestExecOldEnd: of one run after another, each with a gateway of its own, none is told
// anything of the one before, and nothing is made up for.
func TestExecOldEnd(t *testing.T) {
	t.Parallel()
	var s sim.Server
	at := simulatedAt(t, &s)
	broker, err := s.ListenBroker("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config, file := filepath.Join(dir, "client.yaml"), filepath.Join(dir, "report.json")
	text := fmt.Appendf(nil, "api: {url: %s}\nstomp: {enabled: true, url: tcp://%s}\n", at, broker)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		cmd := exec.CommandContext(t.Context(), "adamant", "exec", "--report", file, "--", "caller", "-c", config, "hear", "1")
		cmd.Env = append(os.Environ(), quickExit, "HOME="+dir, "XDG_STATE_HOME="+dir, "TMPDIR="+dir, "XDG_RUNTIME_DIR=")
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), "made up") || !strings.Contains(string(out), "the end of ") {
			t.Errorf("run %d: %v: %s", n, err, out)
		}
		var report execReport
		b, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, &report)
		}
		if err != nil || len(report.Deeds) != 0 || report.Failed != 0 || report.Requests != 2 {
			t.Errorf("run %d: %v: %s", n, err, b)
		}
	}
}

// TestGatewayTellsOldEnd: the end of a plan whose gateway was killed is told by the next
// one, if the plan has ended meanwhile too; and by none after that.
func TestGatewayTellsOldEnd(t *testing.T) {
	t.Parallel()
	var s sim.Server
	upstream, dir := simulatedAt(t, &s), t.TempDir()
	broker, err := s.ListenBroker("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begin := func() *startedGateway {
		return startGatewayIn(t, dir, upstream, "--stomp-upstream", "tcp://"+broker, "--stomp-listen", ":0")
	}
	g := begin()
	var task struct {
		ID string `json:"task_id"`
	}
	_, answer := fetch(t, http.MethodPost, "http://"+g.at["http"]+"/tasks", `{"name": "nap", "params": {"seconds": 0.2}, "instrument_session": "cm12345-1"}`)
	if err := json.Unmarshal([]byte(answer), &task); err != nil {
		t.Fatal(err)
	}
	if status, answer := fetch(t, http.MethodPut, "http://"+g.at["http"]+"/worker/task", fmt.Sprintf(`{"task_id": %q}`, task.ID)); status != http.StatusOK {
		t.Fatal(answer)
	}
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
	for record := ""; !strings.Contains(record, `"is_complete":true`); time.Sleep(10 * time.Millisecond) {
		_, record = fetch(t, http.MethodGet, upstream+"/tasks/"+task.ID, "")
	}
	hear := func(limit time.Duration) string {
		g := begin()
		defer g.end(t)
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		l := (&blueapi.Broker{Address: g.at["stomp"]}).Listen(ctx)
		defer l.Close()
		return awaitEnd(ctx, l, "")
	}
	if got := hear(20 * time.Second); got != "the end of "+task.ID {
		t.Errorf("the next one tells %s", got)
	}
	if got := hear(2 * time.Second); strings.Contains(got, task.ID) {
		t.Errorf("the one after it tells %s", got)
	}
	b, err := os.ReadFile(filepath.Join(dir, "records"))
	if err != nil || strings.Count(string(b), `"deed":"healed"`) != 1 || !strings.Contains(string(b), `"deed":"healed","gone":false,"task":"`+task.ID) {
		t.Errorf("%v: %s", err, b)
	}
}
