//go:build realserver

package sim_test

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// TestRealServerConformance holds the real server at BLUEAPI_URL to the same
// recordings, so that simulator and recordings cannot agree on a mistake. It
// takes about a minute, reloads the environment and deletes all tasks.
func TestRealServerConformance(t *testing.T) {
	api := os.Getenv("BLUEAPI_URL")
	if api == "" {
		t.Skip("BLUEAPI_URL is not set")
	}
	tr := &http.Transport{IdleConnTimeout: 4 * time.Second}
	defer tr.CloseIdleConnections()
	s := suite{
		client: &http.Client{Transport: tr, CheckRedirect: noRedirect}, url: api, dir: t.TempDir(),
		venv: filepath.Dir(filepath.Dir(os.Getenv("BLUEAPI_PY"))),
	}
	s.conform(t)
}

func dialURL(t *testing.T, at string) func(context.Context) (net.Conn, error) {
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", u.Host) }
}

// TestRealServerEvents does the same with what it publishes, to the broker at
// STOMP_URL and to WebSockets. It takes three minutes.
func TestRealServerEvents(t *testing.T) {
	api, broker := os.Getenv("BLUEAPI_URL"), os.Getenv("STOMP_URL")
	if api == "" || broker == "" {
		t.Skip("BLUEAPI_URL or STOMP_URL is not set")
	}
	g := newTarget(t, api, dialURL(t, api), dialURL(t, broker))
	g.until("IDLE")
	g.conformAllStomp()
	g.conformAllWS()
}

// TestRealServerAgrees has the simulator and the real server do what was not
// recorded, and compares what they publish.
func TestRealServerAgrees(t *testing.T) {
	api, broker := os.Getenv("BLUEAPI_URL"), os.Getenv("STOMP_URL")
	if api == "" || broker == "" {
		t.Skip("BLUEAPI_URL or STOMP_URL is not set")
	}
	theirs := newTarget(t, api, dialURL(t, api), dialURL(t, broker))
	var s sim.Server
	defer s.Close()
	ours := newTarget(t, "http://blueapi.example:8000",
		func(ctx context.Context) (net.Conn, error) { return s.DialContext(ctx, "tcp", "") },
		func(ctx context.Context) (net.Conn, error) { return s.DialBroker(ctx, "tcp", "") })
	var sent []string
	for _, l := range loadLines(t, "stomp", "success.frames") {
		if l.Dir == "out" {
			sent = append(sent, l.Frame)
		}
	}
	home := func(g *target) { g.start("moves", `{"x":0,"y":0,"home":false}`); g.until("IDLE") }
	both := func(do func(*target)) (all [2][]string) {
		for i, g := range []*target{theirs, ours} {
			n := newNormal(t)
			for _, f := range g.hear(sent, do) {
				all[i] = append(all[i], n.frame(f))
			}
		}
		return all
	}
	for _, g := range []*target{theirs, ours} {
		g.until("IDLE")
		g.reload()
	}
	all := both((*target).reload) // of an environment that has run nothing
	compareEvents(t, "reload", all[1], all[0])
	for _, g := range []*target{theirs, ours} {
		home(g)
	}
	for _, c := range []struct {
		plan, params string
		after        time.Duration
		changes      []string
	}{
		{plan: "count", params: `{"detectors":["stage"],"num":2,"delay":0.1}`},
		{plan: "count", params: `{"detectors":["det","stage"],"num":2,"delay":[0.2],"metadata":{"a":1,"plan_name":"other"}}`},
		{plan: "count", params: `{"detectors":["stage"],"num":3,"delay":[0.1]}`},
		{plan: "count", params: `{"detectors":["stage"],"num":0}`},
		{plan: "count", params: `{"detectors":[]}`},
		{plan: "count", params: `{"detectors":["det"],"num":5,"delay":1}`, after: 600 * time.Millisecond, changes: []string{"ABORTING"}},
		{plan: "count", params: `{"detectors":["stage"],"num":5,"delay":1}`, after: 1500 * time.Millisecond, changes: []string{"STOPPING"}},
		{plan: "many_events", params: `{"n":2,"detector":"det"}`},
		{plan: "many_events", params: `{"n":0}`},
		{plan: "many_events", params: `{"n":9,"delay":1}`, after: 1500 * time.Millisecond, changes: []string{"ABORTING"}},
		{plan: "moves", params: `{"x":0,"y":0,"home":false}`},
		{plan: "moves", params: `{"x":1,"y":-0.5}`},
		{plan: "moves", params: `{"x":0.3,"y":0.3,"motor_x":"stage.y"}`},
		{plan: "moves", params: `{"x":1,"y":1}`, after: 350 * time.Millisecond, changes: []string{"ABORTING"}},
		{plan: "moves", params: `{"x":0.2,"y":2,"home":false}`, after: 350 * time.Millisecond, changes: []string{"PAUSED", "RUNNING"}},
		{plan: "moves", params: `{"x":1,"y":1}`, after: 350 * time.Millisecond, changes: []string{"PAUSED", "ABORTING"}},
		{plan: "nap", params: `{"seconds":3}`, after: 350 * time.Millisecond, changes: []string{"PAUSED", "STOPPING"}},
		{plan: "fail", params: `{"message":"it's \"bad\"","seconds":0.3}`},
		{plan: "echo", params: `{"number":1,"text":"a\n","movable":"stage.x"}`},
	} {
		do := func(g *target) {
			g.start(c.plan, c.params)
			time.Sleep(c.after)
			for _, state := range c.changes {
				if _, b := g.send("PUT", "/worker/state", `{"new_state":"`+state+`","reason":"because"}`); b == "" {
					t.Error(state)
				}
				if state == "PAUSED" {
					g.until("PAUSED")
				}
			}
			g.until("IDLE")
		}
		all := both(do)
		if c.changes != nil { // when it takes effect is a matter of milliseconds
			all[0], all[1] = withoutProgress(all[0]), withoutProgress(all[1])
		}
		compareEvents(t, c.plan+" "+c.params, all[1], all[0])
	}
}

func withoutProgress(events []string) []string {
	return slices.DeleteFunc(events, func(e string) bool { return strings.Contains(e, `"statuses":`) })
}

// reload has the target make a new environment, and asks for nothing else meanwhile.
func (g *target) reload() {
	g.t.Helper()
	_, before := g.send("DELETE", "/environment", "")
	id := uuid.FindString(before)
	for range 300 {
		time.Sleep(200 * time.Millisecond)
		if _, now := g.send("GET", "/environment", ""); uuid.FindString(now) != id && strings.Contains(now, `"initialized":true`) {
			return
		}
	}
	g.t.Fatal("there is no new environment")
}
