package sim_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// dialWS opens a WebSocket and asks for a plan.
func (l *lab) dialWS(plan, params string) *websocket.Conn {
	l.t.Helper()
	c, _, err := websocket.Dial(l.t.Context(), "http://blueapi/api/v2/run_plan", &websocket.DialOptions{HTTPClient: l.client})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.CloseNow() })
	if err := c.Write(l.t.Context(), websocket.MessageText, []byte(`{"task":`+request(plan, params)+`}`)); err != nil {
		l.t.Fatal(err)
	}
	return c
}

// readWS reads n messages.
func (l *lab) readWS(c *websocket.Conn, n int) (last string) {
	l.t.Helper()
	for range n {
		_, b, err := c.Read(l.t.Context())
		if err != nil {
			l.t.Fatal(err)
		}
		last = string(b)
	}
	return last
}

// expectEnd reads to the end of a WebSocket, which must have this code; -1 is none.
func (l *lab) expectEnd(c *websocket.Conn, want websocket.StatusCode) {
	l.t.Helper()
	for {
		_, _, err := c.Read(l.t.Context())
		if err == nil {
			continue
		}
		if websocket.CloseStatus(err) != want {
			l.t.Errorf("%v, expected %d", err, want)
		}
		return
	}
}

// TestWSWithoutToken: the refusal is not blueapi's own, byte for byte but for the
// date and the order of its headers.
func TestWSWithoutToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &sim.Server{Token: "secret"})
		header := "GET /api/v2/run_plan HTTP/1.1\r\nHost: blueapi\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
		for _, tt := range []struct {
			header, body string
			status       int
			names        []string
		}{
			{header, `{"detail":"Not authenticated"}`, 401, []string{"Www-Authenticate", "Content-Length", "Content-Type", "Date", "Connection"}},
			{
				header + "Authorization: Bearer secret\r\n", "", 101,
				[]string{"Upgrade", "Connection", "Sec-Websocket-Accept", "Date", "Server", "X-Blueapi-Version", "X-Api-Version"},
			},
		} {
			conn, err := l.DialContext(t.Context(), "tcp", "")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, tt.header+"\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.Close { // which http.ReadResponse takes out
				resp.Header.Set("Connection", "close")
			}
			if resp.StatusCode != tt.status || len(resp.Header) != len(tt.names) {
				t.Errorf("%d %v", resp.StatusCode, resp.Header)
			}
			for _, name := range tt.names {
				if resp.Header.Get(name) == "" {
					t.Errorf("no %s in %v", name, resp.Header)
				}
			}
			if tt.body != "" {
				if b, err := io.ReadAll(resp.Body); string(b) != tt.body || err != nil {
					t.Errorf("%s, %v", b, err)
				}
			}
			_ = conn.Close()
		}
	})
}

// TestWSDies: where the real one raises what it does not expect, the connection ends
// without a close frame; the plan that was too slow to start runs.
func TestWSDies(t *testing.T) {
	inLab(t, func(l *lab) {
		c := l.dialWS("slow_start", `{"seconds":6,"path":"f"}`)
		begun := time.Now()
		l.expectEnd(c, -1)
		if took := time.Since(begun).Round(time.Second); took != 5*time.Second || len(l.Lines("f")) != 0 {
			l.t.Errorf("after %v, %q", took, l.Lines("f"))
		}
		time.Sleep(2 * time.Second)
		if len(l.Lines("f")) != 1 {
			l.t.Errorf("%q", l.Lines("f"))
		}
		b, _, err := websocket.Dial(l.t.Context(), "http://blueapi/api/v2/run_plan", &websocket.DialOptions{HTTPClient: l.client})
		if err != nil {
			l.t.Fatal(err)
		}
		defer b.CloseNow()
		if err := b.Write(l.t.Context(), websocket.MessageBinary, []byte(`{}`)); err != nil {
			l.t.Fatal(err)
		}
		l.expectEnd(b, -1)
	})
}

// TestWSTaskDeleted: nothing tells of the end of a plan whose task was deleted.
func TestWSTaskDeleted(t *testing.T) {
	inLab(t, func(l *lab) {
		c := l.dialWS("nap", `{"seconds":1}`)
		id := uuid.FindString(l.readWS(c, 1))
		if status, b, err := l.ask(l.t.Context(), "DELETE", "/tasks/"+id, ""); status != 200 {
			l.t.Fatal(status, b, err)
		}
		l.readWS(c, 1)
		l.expect("state", l.get("/worker/state"), `"IDLE"`)
		told := make(chan error, 1)
		go func() {
			_, _, err := c.Read(l.t.Context())
			told <- err
		}()
		select {
		case err := <-told:
			l.t.Error(err)
		case <-time.After(time.Minute):
		}
		_ = c.CloseNow()
		<-told
	})
}

// TestWSFaults: the request for a WebSocket goes through the faults, and what cuts
// connections cuts it too.
func TestWSFaults(t *testing.T) {
	inLab(t, func(l *lab) {
		l.Inject(sim.When(sim.Request("GET", "/api/v2/run_plan"), sim.First(2, sim.Status(503))))
		for _, want := range []int{503, 503, 101} {
			c, resp, err := websocket.Dial(l.t.Context(), "http://blueapi/api/v2/run_plan", &websocket.DialOptions{HTTPClient: l.client})
			if resp == nil || resp.StatusCode != want {
				l.t.Fatalf("%v, expected %d", err, want)
			}
			if c != nil {
				_ = c.CloseNow()
			}
		}
		c := l.dialWS("many_events", `{"n":100,"delay":0.1}`)
		l.readWS(c, 3)
		l.Network().ResetConns("")
		time.Sleep(time.Second)
		l.expectEnd(c, -1)
		if r := l.Runs(); len(r) != 1 || !r[0].Aborted {
			l.t.Errorf("%+v", r)
		}
		c = l.dialWS("many_events", `{"n":100,"delay":0.1}`)
		l.readWS(c, 3)
		l.Restart(time.Second)
		l.expectEnd(c, -1)
	})
}

// TestTerminate: what was recorded of SIGTERM, with a WebSocket and without.
func TestTerminate(t *testing.T) {
	inLab(t, func(l *lab) {
		before := l.environment()
		c := l.dialWS("many_events", `{"n":200,"delay":0.1}`)
		l.readWS(c, 4)
		l.Terminate(time.Second)
		l.expectEnd(c, websocket.StatusServiceRestart)
		if _, _, err := l.ask(l.t.Context(), "GET", "/healthz", ""); err == nil {
			l.t.Error("it still takes connections")
		}
		time.Sleep(2 * time.Second)
		if e := l.environment(); e.ID == before.ID {
			l.t.Error("the environment is that of before")
		}
		if r := l.Runs(); len(r) != 1 || !r[0].Aborted || r[0].Killed || r[0].Ended.Sub(r[0].Began) > time.Second {
			l.t.Errorf("%+v", r)
		}

		l.starts("append_line", `{"path":"f","line":"begin","seconds":8,"last":"end"}`)
		l.Terminate(time.Second)
		time.Sleep(10 * time.Second)
		if lines := strings.Join(l.Lines("f"), " "); lines != "begin end" {
			l.t.Errorf("%s", lines)
		}
		l.expect("state", l.get("/worker/state"), `"IDLE"`)

		l.starts("append_line", `{"path":"f","line":"long","seconds":60,"last":"never"}`)
		begun := time.Now()
		l.Terminate(0)
		time.Sleep(29 * time.Second)
		if _, _, err := l.ask(l.t.Context(), "GET", "/healthz", ""); err == nil {
			l.t.Errorf("it is back after %v", time.Since(begun))
		}
		time.Sleep(2 * time.Second)
		l.expect("state", l.get("/worker/state"), `"IDLE"`)
		if lines := l.Lines("f"); len(lines) != 3 {
			l.t.Errorf("%q", lines)
		}
	})
}

// TestTrace: the events of a task belong to the trace of the request that began it,
// but for the last one.
func TestTrace(t *testing.T) {
	inLab(t, func(l *lab) {
		const trace = "0123456789abcdef0123456789abcdef"
		l.get("/healthz") // and the server is connected
		var heard tap
		l.InjectBroker(heard.fault)
		id := l.submit("nap", `{"seconds":0.1}`)
		req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPut, "http://blueapi/worker/task", strings.NewReader(`{"task_id":"`+id+`"}`))
		if err != nil {
			l.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Traceparent", "00-"+trace+"-0123456789abcdef-01")
		resp, err := l.client.Do(req)
		if err != nil {
			l.t.Fatal(err)
		}
		resp.Body.Close()
		time.Sleep(time.Second)
		frames := heard.sent()
		for i, want := range []bool{true, true, false} {
			if i >= len(frames) || strings.Contains(frames[i], "\ntraceparent:00-"+trace+"-") != want {
				l.t.Errorf("%d: %q", i, frames)
			}
		}
	})
}
