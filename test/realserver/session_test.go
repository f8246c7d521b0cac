//go:build linux && realserver

package realserver

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// runTask is what callers that nobody will rewrite do.
const runTask = `
import json, sys
from blueapi.client import BlueapiClient
from blueapi.client.rest import BlueapiRestClient
from blueapi.config import RestConfig
from blueapi.service.model import TaskRequest
from blueapi.worker import WorkerEvent
url, name, params = sys.argv[1:4]
finals = events = 0
def on_event(e):
    global finals, events
    events += 1
    finals += isinstance(e, WorkerEvent) and e.is_complete()
client = BlueapiClient(BlueapiRestClient(RestConfig(url=url)))
try:
    s = client.run_task(TaskRequest(name=name, params=json.loads(params), instrument_session="cm12345-1"), on_event=on_event)
    print(json.dumps({"events": events, "finals": finals, "failed": s.task_failed, "result": s.result.model_dump()}))
except Exception as e:
    print(json.dumps({"exception": type(e).__name__, "text": str(e)}))
`

// said is what such a caller says.
type said struct {
	Events, Finals  int
	Failed          bool
	Result          struct{ Outcome, Type, Message string }
	Exception, Text string
}

// front is a gateway before a server, with a proxy between them.
type front struct {
	*gateway.Gateway
	proxy   *faultproxy.Proxy
	url     string
	records chan gateway.Record
}

func frontOf(t *testing.T, s *Server, broker *blueapi.Broker) *front {
	t.Helper()
	p, err := faultproxy.Listen(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{proxy: p, records: make(chan gateway.Record, 100)}
	f.Gateway = &gateway.Gateway{Upstream: p.URL(), Broker: broker, Log: func(r gateway.Record) { f.records <- r }}
	web := httptest.NewServer(f)
	f.url = web.URL
	t.Cleanup(func() {
		f.Close()
		web.Close()
		p.Close()
	})
	return f
}

// session is the record of the next session that ends.
func (f *front) session(t *testing.T) gateway.Record {
	t.Helper()
	for {
		select {
		case r := <-f.records:
			if r.Path == "/api/v2/run_plan" {
				return r
			}
		case <-time.After(time.Minute):
			t.Fatal("the session does not end")
		}
	}
}

// TestSessionPython: the Python client, unmodified, has plans run by WebSocket through a
// gateway, and notices nothing of what befalls the way to the server.
func TestSessionPython(t *testing.T) {
	s := theServer(t)
	stomp := relayTo(t, s.STOMP)
	broker := &blueapi.Broker{Address: stomp.address, Login: "guest", Passcode: "guest"}
	for name, arm := range map[string]func(*front){
		"no fault":          func(*front) {},
		"PUT's answer lost": func(f *front) { f.proxy.LoseAnswer("PUT", "/worker/task") },
		"PUT lost":          func(f *front) { f.proxy.LoseRequest("PUT", "/worker/task") },
		"answers lost": func(f *front) {
			f.proxy.LoseAnswer("POST", "/tasks")
			f.proxy.LoseAnswer("GET", "/tasks/")
			f.proxy.LoseAnswer("GET", "/environment")
		},
		"an outage of 1 s at the PUT": func(f *front) {
			f.proxy.Arm(faultproxy.Outage{Kind: faultproxy.Reset, For: time.Second, Request: 5})
		},
		"a black hole of 1 s": func(f *front) {
			f.proxy.Arm(faultproxy.Outage{Kind: faultproxy.BlackHole, For: time.Second, Request: 7})
		},
		"events cut off": func(*front) { time.AfterFunc(1700*time.Millisecond, stomp.down) },
	} {
		for kind, b := range map[string]*blueapi.Broker{" with a broker": broker, "": nil} {
			t.Run(name+kind, func(t *testing.T) {
				s.settle(t)
				file := filepath.Join(t.TempDir(), "lines")
				f := frontOf(t, s, b)
				arm(f)
				params, err := json.Marshal(map[string]any{"path": file, "line": "x", "seconds": 0.5})
				if err != nil {
					t.Fatal(err)
				}
				e := execute(t, 2*time.Minute, []string{s.Python, "-c", runTask, f.url, "append_line", string(params)})
				var got said
				if err := json.Unmarshal([]byte(lastLine(e.stdout)), &got); err != nil || got.Exception != "" || got.Finals != 1 || got.Failed || got.Events < 2 {
					t.Errorf("%v %+v", e, got)
				}
				if n := lines(t, file); n != 1 {
					t.Errorf("it ran %d times", n)
				}
				t.Logf("%.1f s, %+v, %+v", e.took.Seconds(), got, f.session(t))
				if name == "events cut off" {
					time.Sleep(time.Second)
					stomp.up(t)
				}
			})
		}
	}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// TestSessionPythonUnknown: when nobody knows, the client raises what tells so, and not
// what makes its callers run the plan again.
func TestSessionPythonUnknown(t *testing.T) {
	s := theServer(t)
	s.settle(t)
	f := frontOf(t, s, nil)
	file := filepath.Join(t.TempDir(), "lines")
	params, _ := json.Marshal(map[string]any{"path": file, "line": "x", "seconds": 0.5})
	f.proxy.BeforeLosing("PUT", "/worker/task", func() {
		f.proxy.Arm(faultproxy.Outage{Kind: faultproxy.Refused, For: 3 * time.Minute})
	})
	e := execute(t, 2*time.Minute, []string{s.Python, "-c", runTask, f.url, "append_line", string(params)})
	var got said
	if err := json.Unmarshal([]byte(lastLine(e.stdout)), &got); err != nil || got.Exception != "ConnectionClosedError" || !strings.Contains(got.Text, "not known whether it ran") {
		t.Errorf("%v %+v", e, got)
	}
	if r := f.session(t); r.Verdict != "unknown" {
		t.Errorf("%+v", r)
	}
	t.Logf("%.1f s, %+v", e.took.Seconds(), got)

	// To those who come now, nothing is sent.
	e = execute(t, time.Minute, []string{s.Python, "-c", runTask, f.url, "append_line", string(params)})
	if err := json.Unmarshal([]byte(lastLine(e.stdout)), &got); err != nil || got.Exception != "ConnectionClosedError" || !strings.Contains(got.Text, "not started, safe to run again") {
		t.Errorf("%v %+v", e, got)
	}
	cli := execute(t, time.Minute, []string{s.CLI, "-h", f.url, "controller", "run", "--ws", "-i", "cm12345-1", "append_line", string(params)})
	t.Logf("%+v; the command line: exit %d, %s", got, cli.exit, lastLine(cli.stderr))
	if n := lines(t, file); n > 1 {
		t.Errorf("it ran %d times", n)
	}
}

// TestSessionPythonInterrupted: a caller who interrupts the client has the plan aborted;
// one that is killed has not.
func TestSessionPythonInterrupted(t *testing.T) {
	s := theServer(t)
	for sig, outcome := range map[os.Signal]string{os.Interrupt: "RunEngineInterrupted", os.Kill: "NoneType"} {
		t.Run(sig.String(), func(t *testing.T) {
			s.settle(t)
			f := frontOf(t, s, nil)
			cmd := exec.CommandContext(t.Context(), s.CLI, "-h", f.url, "controller", "run", "--ws", "-i", "cm12345-1", "nap", `{"seconds": 6}`)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for state := ""; state != "RUNNING"; time.Sleep(100 * time.Millisecond) {
				s.get(t, "/worker/state", &state)
			}
			time.Sleep(time.Second)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			err := cmd.Wait()
			r := f.session(t)
			if err == nil || !r.Gone || (r.Deed == gateway.Aborted) != (sig == os.Interrupt) {
				t.Errorf("%v %+v", err, r)
			}
			s.settle(t)
			var current struct {
				ID string `json:"task_id"`
			}
			s.get(t, "/worker/task", &current)
			var task blueapi.Task
			s.get(t, "/tasks/"+current.ID, &task)
			if task.Outcome == nil || task.Outcome.Type != outcome {
				t.Errorf("%+v", task)
			}
		})
	}
}
