//go:build linux && realserver

package stomp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/adamant-go/adamant/internal/stomp"
	"github.com/adamant-go/adamant/test/realserver"
)

// realClient starts the real server, and returns a client of its broker.
func realClient(t *testing.T) (*realserver.Server, *stomp.Client) {
	t.Helper()
	s := realserver.Start(t)
	return s, &stomp.Client{Address: strings.TrimPrefix(s.STOMP, "tcp://"), Login: "guest", Passcode: "guest"}
}

// realSession opens a session and waits until it is subscribed.
func realSession(t *testing.T, c *stomp.Client) *stomp.Session {
	t.Helper()
	s := c.Open(t.Context(), events)
	t.Cleanup(func() { s.Close() })
	if err := s.Subscribed(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// startPlan starts a plan by plain HTTP and returns its task's id.
func startPlan(t *testing.T, url, name, params string) string {
	t.Helper()
	do := func(method, path, body string) (task struct{ TaskID string }) {
		req, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req) //nolint:forbidigo // a test against a server of its own
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var answer struct {
			TaskID string `json:"task_id"`
		}
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode >= 300 {
			t.Fatalf("%s %s: %s, %v", method, path, res.Status, err)
		}
		task.TaskID = answer.TaskID
		return task
	}
	id := do("POST", "/tasks", fmt.Sprintf(`{"name":%q,"params":%s,"instrument_session":"cm12345-1"}`, name, params)).TaskID
	do("PUT", "/worker/task", fmt.Sprintf(`{"task_id":%q}`, id))
	return id
}

// untilComplete takes messages until the task is complete, and counts them.
func untilComplete(t *testing.T, s *stomp.Session, task string) (messages, gaps int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		d, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("after %d messages: %v", messages, err)
		}
		if d.Gap != nil {
			gaps++
			continue
		}
		messages++
		var event struct {
			Status *struct {
				TaskID   string `json:"task_id"`
				Complete bool   `json:"task_complete"`
			} `json:"task_status"`
		}
		if err := json.Unmarshal(d.Message.Body, &event); err != nil {
			t.Fatalf("%v: %q", err, d.Message.Body)
		}
		if st := event.Status; st != nil && st.TaskID == task && st.Complete {
			if d.Message.Get("correlation-id") != task {
				t.Errorf("correlation-id is %q", d.Message.Get("correlation-id"))
			}
			return messages, gaps
		}
	}
}

func broker(t *testing.T, s *realserver.Server, verb string) {
	t.Helper()
	if out, err := exec.Command("../../test/realserver/ctl.sh", s.Dir, verb).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", verb, err, out)
	}
}

// TestRealRun receives all that a real run sends, and is not given up in a pause
// of many heart-beats in which nobody takes anything.
func TestRealRun(t *testing.T) {
	srv, c := realClient(t)
	c.HeartBeat = time.Second
	s := realSession(t, c)
	task := startPlan(t, srv.URL, "count", `{"detectors":["det"],"num":5}`)
	time.Sleep(9 * time.Second)
	messages, gaps := untilComplete(t, s, task)
	if messages < 20 || gaps > 0 {
		t.Errorf("%d messages, %d gaps", messages, gaps)
	}
	task = startPlan(t, srv.URL, "sleep", `{"time":0.001}`) // which the Python client can miss
	if messages, gaps := untilComplete(t, s, task); gaps > 0 {
		t.Errorf("%d messages, %d gaps", messages, gaps)
	}
}

// TestRealRefusals: RabbitMQ's ERRORs are told apart.
func TestRealRefusals(t *testing.T) {
	_, c := realClient(t)
	wrong := *c
	wrong.Passcode = "wrong-passcode"
	for _, tt := range []struct {
		command, destination string
		client               *stomp.Client
	}{{"CONNECT", events, &wrong}, {"SUBSCRIBE", "/nonsense/x", c}, {"SUBSCRIBE", "/exchange/none/x", c}} {
		s := tt.client.Open(t.Context(), tt.destination)
		start := time.Now()
		err := s.Subscribed(t.Context())
		if e, ok := errors.AsType[*stomp.Error](err); !ok || e.Command != tt.command || strings.Contains(err.Error(), "passcode") {
			t.Errorf("%s: %v", tt.destination, err)
		}
		t.Logf("after %v: %v", time.Since(start).Round(time.Millisecond), err)
		s.Close()
	}
}

// TestRealBrokerAway stops the broker, and stops its processes as a machine that
// hangs does. The session notices, recovers by itself and tells the gap.
func TestRealBrokerAway(t *testing.T) {
	srv, c := realClient(t)
	t.Cleanup(func() { // who shares the server finds its events flowing again
		broker(t, srv, "broker-start")
		if err := srv.Restart(); err != nil {
			t.Error(err)
		}
	})
	c.HeartBeat = 2 * time.Second
	s := realSession(t, c)
	next := func() stomp.Delivery {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		d, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	send := func(text string) {
		t.Helper()
		conn, err := c.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(conn.Send(t.Context(), events, []byte(text)), conn.Disconnect(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	signalBroker := func(sig syscall.Signal) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(srv.Dir, "broker.pid"))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(-pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	for name, broker := range map[string]struct {
		goes, comes func()
		least       time.Duration // to stay away, after the session has noticed
	}{
		"stopped": {func() { broker(t, srv, "broker-stop") }, func() { broker(t, srv, "broker-start") }, 3 * time.Second},
		"frozen":  {func() { signalBroker(syscall.SIGSTOP) }, func() { signalBroker(syscall.SIGCONT) }, 0},
	} {
		before := time.Now()
		send("before")
		if d := next(); d.Message == nil || string(d.Message.Body) != "before" {
			t.Fatalf("%s: %+v", name, d)
		}
		broker.goes()
		gone := time.Now()
		// Taken before the broker comes back: the end would be joined to it.
		open := next()
		if open.Gap == nil || !open.Gap.Until.IsZero() || open.Gap.Last == "" || open.Gap.From.Before(before) || open.Gap.From.Sub(gone) > 3*time.Second {
			t.Fatalf("%s: %+v", name, open.Gap)
		}
		time.Sleep(broker.least)
		broker.comes()
		back := time.Now()
		for d := open; d.Gap.Until.IsZero(); {
			if d = next(); d.Gap == nil {
				t.Fatalf("%s: %+v before the end of the gap", name, d.Message)
			}
			open = d
		}
		t.Logf("%s: away for %v, %d attempts, back %v after the broker: %v", name,
			open.Gap.Until.Sub(open.Gap.From).Round(time.Millisecond), open.Gap.Attempts, time.Since(back).Round(time.Millisecond), open.Gap.Err)
		if name == "frozen" && open.Gap.Err == nil {
			t.Error("no reason")
		}
		send("after")
		if d := next(); d.Message == nil || string(d.Message.Body) != "after" {
			t.Fatalf("%s: %+v", name, d)
		}
	}
}
