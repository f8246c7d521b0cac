package sim_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/internal/memnet"
)

// wsCases are what was done besides what the client sent, by the names of the
// recordings.
func wsCases() map[string]wsCase {
	pausedBefore := wsCase{before: func(g *target) {
		g.start("nap", `{"seconds":20}`)
		g.change("PAUSED", "", "PAUSED", "PAUSING")
		g.until("PAUSED")
	}, after: func(g *target) { g.change("ABORTING", "", "IDLE") }}
	cases := map[string]wsCase{
		"success": {}, "success-no-kind": {}, "result": {}, "unserialisable": {}, "documents": {}, "progress": {}, "failure": {},
		"plan-not-found": {}, "invalid-args": {}, "later-frames-ignored": {}, "submit-while-paused": pausedBefore,
		"invalid-request-broken-json": {}, "invalid-request-kind": {}, "invalid-request-missing-field": {}, "invalid-request-pause": {},

		"busy": {
			before: func(g *target) { g.start("nap", `{"seconds":3}`); g.pending = g.countPending() },
			after: func(g *target) {
				if n := g.countPending(); n != g.pending+1 {
					g.t.Errorf("%d pending tasks, expected the orphan besides %d", n, g.pending)
				}
				g.until("IDLE")
			},
		},
		"paused-elsewhere": {
			note:  func(g *target) { g.change("PAUSED", "", "PAUSED", "PAUSING") },
			after: func(g *target) { g.expectState("PAUSED"); g.change("ABORTING", "", "IDLE") },
		},
		"no-submit-then-close": {after: func(g *target) { g.expectState("IDLE") }},
	}
	return cases
}

type wsCase struct {
	before, after func(*target)
	note          func(*target) // at the recording's note, while the session lasts
}

func (g *target) countPending() int {
	_, b := g.send("GET", "/tasks?task_status=PENDING", "")
	return strings.Count(b, `"is_pending":true`)
}

func (g *target) expectState(want string) {
	g.t.Helper()
	if got := g.state(); got != want {
		g.t.Errorf("state %s, expected %s", got, want)
	}
}

func (g *target) dialWebSocket(header http.Header) (*websocket.Conn, *http.Response, error) {
	return websocket.Dial(g.t.Context(), g.url+"/api/v2/run_plan", &websocket.DialOptions{HTTPClient: g.client, HTTPHeader: header})
}

// conformWS holds a session to a recording: each frame from the server, and the end.
func (g *target) conformWS(name string, c wsCase) {
	g.t.Helper()
	if c.before != nil {
		c.before(g)
	}
	got, want := newNormal(g.t), newNormal(g.t)
	conn, resp, err := g.dialWebSocket(nil)
	if err != nil {
		g.t.Fatal(name, err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	for k, v := range map[string]string{"Server": "uvicorn", "X-Blueapi-Version": "1.21.1", "X-Api-Version": "1.5.0", "Upgrade": "websocket", "Connection": "Upgrade"} {
		if resp.Header.Get(k) != v || resp.StatusCode != http.StatusSwitchingProtocols {
			g.t.Errorf("%s: %s %q, recorded %q", name, k, resp.Header.Get(k), v)
		}
	}
	var recorded, came []string
	for _, l := range loadLines(g.t, "ws", name+".jsonl") {
		switch {
		case l.Dir == "out":
			if err := conn.Write(g.t.Context(), websocket.MessageText, []byte(l.Frame)); err != nil {
				g.t.Fatal(name, err)
			}
		case l.Dir == "in":
			recorded = append(recorded, want.body(l.Frame))
			_, b, err := conn.Read(g.t.Context())
			if err != nil {
				g.t.Fatal(name, err)
			}
			came = append(came, got.body(string(b)))
		case l.Event == "closed":
			_, b, err := conn.Read(g.t.Context())
			closed, _ := errors.AsType[websocket.CloseError](err)
			if int(closed.Code) != *l.Code || closed.Reason != *l.Reason {
				g.t.Errorf("%s: %s, %v, recorded %d %s", name, b, err, *l.Code, *l.Reason)
			}
		case l.Event == "close sent":
			if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
				g.t.Error(name, err)
			}
		case l.Note != "" && c.note != nil:
			c.note(g)
			c.note = nil
		}
	}
	compareEvents(g.t, name, came, recorded)
	if c.after != nil {
		c.after(g)
	}
}

// bareWebSocket upgrades a connection by hand, sends one frame, and returns when the
// server's first one has come.
func (g *target) bareWebSocket(text string) net.Conn {
	g.t.Helper()
	conn, err := g.dial(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /api/v2/run_plan HTTP/1.1\r\nHost: blueapi\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"); err != nil {
		g.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		g.t.Fatal(resp, err)
	}
	head := []byte{0x81, 0xfe, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0} // text, masked by zeros
	if _, err := conn.Write(append(head, text...)); err != nil {
		g.t.Fatal(err)
	}
	if _, err := r.ReadByte(); err != nil {
		g.t.Fatal(err)
	}
	return conn
}

// losses are the ways in which a connection can come to its end without a close
// frame, by the names of the recordings.
func losses() map[string]func(net.Conn) error {
	return map[string]func(net.Conn) error{
		"client-ends-tcp": net.Conn.Close,
		"client-resets": func(c net.Conn) error {
			if m, ok := c.(*memnet.Conn); ok {
				m.Reset()
				return nil
			}
			return errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close())
		},
		"client-half-closes": func(c net.Conn) error {
			if m, ok := c.(*memnet.Conn); ok {
				m.CutAfter(0, io.EOF)
				_, err := m.Write([]byte{0})
				return err
			}
			return c.(*net.TCPConn).CloseWrite()
		},
	}
}

// conformLoss loses a connection as a recording did, and holds what becomes of the
// plan to it.
func (g *target) conformLoss(name string, lose func(net.Conn) error) {
	g.t.Helper()
	lines := loadLines(g.t, "ws", name+".jsonl")
	sent := lines[slices.IndexFunc(lines, func(l recordedLine) bool { return l.Dir == "out" })].Frame
	conn := g.bareWebSocket(sent)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer conn.Close()
	reading.Go(func() { _, _ = io.Copy(io.Discard, conn) })
	if lose != nil {
		if !strings.HasPrefix(name, "client-closes") {
			time.Sleep(500 * time.Millisecond)
		}
		if err := lose(conn); err != nil {
			g.t.Error(name, err)
		}
	}
	begun, past := time.Now(), 0.0
	for _, l := range lines {
		if l.State == "" {
			continue
		}
		at := l.At
		if past += l.After; past > 0 {
			at = past
		}
		time.Sleep(time.Until(begun.Add(time.Duration(at * float64(time.Second)))))
		_, id := g.send("GET", "/worker/task", "")
		_, id, _ = strings.Cut(strings.Trim(id, `"}`), `:"`)
		_, b := g.send("GET", "/tasks/"+id, "")
		var task struct{ Outcome json.RawMessage }
		if err := json.Unmarshal([]byte(b), &task); err != nil {
			g.t.Fatal(name, err)
		}
		var want any
		_ = json.Unmarshal(l.Outcome, &want)
		var got any
		_ = json.Unmarshal(task.Outcome, &got)
		w, _ := json.Marshal(want)
		have, _ := json.Marshal(got)
		if state := g.state(); state != l.State || string(have) != string(w) {
			g.t.Errorf("%s after %.1f s: %s %s, recorded %s %s", name, at, state, have, l.State, w)
		}
	}
	g.until("IDLE")
}

func (g *target) conformAllWS() {
	for name, c := range wsCases() {
		g.conformWS(name, c)
	}
	for _, events := range []string{"-with-events", "-without-events"} {
		for name, lose := range losses() {
			g.conformLoss(name+events, lose)
		}
		g.conformLoss("client-closes"+events, func(c net.Conn) error {
			_, err := c.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8}) // 1000
			return err
		})
	}
	g.conformLoss("client-silent", nil)
}

func TestWSConformance(t *testing.T) { onTarget(t, (*target).conformAllWS) }

// TestWSRecordingsAreUsed makes sure that no recording was left behind.
func TestWSRecordingsAreUsed(t *testing.T) {
	cases, lost := wsCases(), losses()
	files, _ := filepath.Glob(filepath.Join("testdata", "ws", "*.jsonl"))
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".jsonl")
		bare := strings.TrimSuffix(strings.TrimSuffix(name, "-with-events"), "-without-events")
		_, used := cases[name]
		switch name {
		case "client-silent", "client-closes-with-events", "client-closes-without-events",
			"server-killed", "server-terminated": // TestRestartEndsWebSocket, TestTerminate
		default:
			if !used && lost[bare] == nil {
				t.Errorf("%s is used by no case", name)
			}
		}
	}
}
