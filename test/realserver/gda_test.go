//go:build linux && realserver

package realserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// gda replays what GDA's client does: requests on connections that are kept, by a client
// that sends nothing twice that has an effect, and the topic by STOMP 1.2 with
// heart-beats.
type gda struct {
	t      *testing.T
	url    string
	client http.Client
	stomp  net.Conn
	frames *bufio.Reader
	beats  int // heart-beats that came
}

// connect opens the topic and waits for the broker's word.
func (g *gda) connect(address string) {
	g.t.Helper()
	var err error
	if g.stomp, err = net.Dial("tcp", address); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { g.stomp.Close() })
	g.frames = bufio.NewReader(g.stomp)
	g.send("CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\nheart-beat:1000,1000\n\n\x00")
	connected := g.frame(time.Now().Add(10 * time.Second))
	if !strings.HasPrefix(connected, "CONNECTED") || !strings.Contains(connected, "version:1.2") || strings.Contains(connected, "heart-beat:0,0") {
		g.t.Fatalf("the broker says %q", connected)
	}
	g.send("SUBSCRIBE\nid:1\ndestination:/topic/public.worker.event\nack:auto\nreceipt:ready\n\n\x00")
	if receipt := g.frame(time.Now().Add(10 * time.Second)); !strings.HasPrefix(receipt, "RECEIPT") {
		g.t.Fatalf("the broker says %q", receipt)
	}
	beat := time.NewTicker(time.Second)
	ended := make(chan struct{})
	g.t.Cleanup(func() { close(ended) })
	go func() {
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
				_, _ = g.stomp.Write([]byte("\n")) // fails at the end
			case <-ended:
				return
			}
		}
	}()
}

func (g *gda) send(frame string) {
	g.t.Helper()
	if _, err := g.stomp.Write([]byte(frame)); err != nil {
		g.t.Fatal(err)
	}
}

// frame reads the next frame, and counts the heart-beats before it.
func (g *gda) frame(until time.Time) string {
	g.t.Helper()
	for {
		// Who has promised a beat each second and is silent for three is gone.
		deadline := time.Now().Add(3 * time.Second)
		if until.Before(deadline) {
			deadline = until
		}
		_ = g.stomp.SetReadDeadline(deadline) // a connection has deadlines
		c, err := g.frames.ReadByte()
		if err != nil {
			g.t.Fatalf("after %d heart-beats: %v", g.beats, err)
		}
		if c == '\n' || c == '\r' {
			g.beats++
			continue
		}
		_ = g.frames.UnreadByte() // one was read
		frame, err := g.frames.ReadString(0)
		if err != nil {
			g.t.Fatal(err)
		}
		return frame
	}
}

// ask makes a request as Apache's fluent client does.
func (g *gda) ask(method, path string, in, out any) {
	g.t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			g.t.Fatal(err)
		}
		body = io.MultiReader(bytes.NewReader(b)) // not to be read again
	}
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.url+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("User-Agent", "Apache-HttpClient/4.5.14 (Java/17.0.9)")
	req.Header.Set("Accept-Encoding", "gzip,deflate")
	if in != nil {
		req.Header.Set("Content-Type", "application/json; charset=UTF-8")
	}
	resp, err := g.client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && out != nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil || resp.StatusCode/100 != 2 {
		g.t.Fatalf("%s %s: %s: %v: %s", method, path, resp.Status, err, b)
	}
}

// TestRecipeGDA replays a run of GDA's while the answers to its requests are lost, the
// end of its plan is not told, and it leaves its connection idle for longer than the
// server keeps one.
func TestRecipeGDA(t *testing.T) {
	s := theServer(t)
	s.clear(t)
	l := lay(t, s, "gateway")
	l.relay.filter(func(frame []byte) bool { return !endEvent(frame) })
	l.relay.cut()
	g := &gda{t: t, url: l.url}
	g.connect(l.stomp)
	var state string
	g.ask(http.MethodGet, "/worker/state", nil, &state)
	time.Sleep(5500 * time.Millisecond) // somebody thinks
	for range 2 {
		file := filepath.Join(t.TempDir(), "lines")
		l.proxy.Arm(faultproxy.Outage{Kind: faultproxy.BadGateway, For: time.Second, Request: 1, Method: http.MethodPost, Path: "/tasks", Answered: true})
		l.proxy.LoseAnswer(http.MethodPut, "/worker/task")
		var task struct {
			ID string `json:"task_id"`
		}
		g.ask(http.MethodPost, "/tasks", map[string]any{
			"name": "append_line", "instrument_session": "cm12345-1",
			"params": map[string]any{"path": file, "line": "x", "seconds": 4},
		}, &task)
		id := task.ID
		g.ask(http.MethodPut, "/worker/task", map[string]any{"task_id": id}, &task)
		if task.ID != id {
			t.Errorf("the server started %s, not %s", task.ID, id)
		}
		for ends := time.Now().Add(30 * time.Second); ; {
			frame := g.frame(ends)
			if strings.Contains(frame, "correlation-id:"+id) && endEvent([]byte(frame)) {
				break
			}
		}
		s.settle(t)
		if n := lines(t, file); n != 1 {
			t.Errorf("the plan ran %d times\nrequests: %s\n%s", n, describe(l.proxy), l.said())
		}
	}
	if g.beats < 3 {
		t.Errorf("%d heart-beats came in more than 8 s", g.beats)
	}
	fmt.Fprintf(os.Stdout, "\n| GDA, replayed | two plans ran once each, their ends were told, %d heart-beats |\n\n", g.beats)
}
