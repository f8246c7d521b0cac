//go:build linux && realserver

package realserver

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// gatewayKilling is a moment at which the gateway is killed and started again.
type gatewayKilling struct {
	name string
	// idle is a moment at which no call of the caller is under way: it notices nothing.
	idle bool
	// set prepares the moment, at which f is to be called.
	set func(l *line, f func())
}

func gatewayKillings() []gatewayKilling {
	const put, start = http.MethodPut, "/worker/task"
	// answered calls f when the server has answered a request, which the gateway does
	// not know yet.
	answered := func(method, path string) func(*line, func()) {
		return func(l *line, f func()) {
			l.proxy.BeforeLosing(method, path, func() {})
			whenReached(l, method, path, f)
		}
	}
	before := func(method, path string) func(*line, func()) {
		return func(l *line, f func()) { l.proxy.Before(method, path, f) }
	}
	return []gatewayKilling{
		{"before the POST", false, before(http.MethodPost, "/tasks")},
		{"as the POST is answered", false, answered(http.MethodPost, "/tasks")},
		{"before the PUT, while it is looked", false, func(l *line, f func()) {
			l.proxy.Before(http.MethodPost, "/tasks", func() { l.proxy.Before(http.MethodGet, "/environment", f) })
		}},
		{"as the PUT is under way", false, before(put, start)},
		{"as the PUT is under way, which is lost", false, func(l *line, f func()) {
			l.proxy.LoseRequest(put, start)
			whenRead(l, put, start, f)
		}},
		{"as the PUT is under way, which arrives 2 s later", false, func(l *line, f func()) {
			l.proxy.DeliverLate(put, start, 2*time.Second)
			whenRead(l, put, start, f)
		}},
		{"as the PUT is answered", false, answered(put, start)},
		{"in mid-plan, between two calls", true, func(l *line, f func()) {
			l.proxy.Before(put, start, func() { // the caller asks at 0 and every 500 ms after that
				whenReached(l, put, start, func() { time.Sleep(700 * time.Millisecond); f() })
			})
		}},
	}
}

// whenRead calls f as soon as the proxy has read such a request.
func whenRead(l *line, method, path string, f func()) {
	when(l, func(r faultproxy.Request) bool { return r.Method == method && strings.HasSuffix(r.Path, path) }, f)
}

// whenReached calls f as soon as the server has answered such a request.
func whenReached(l *line, method, path string, f func()) {
	when(l, func(r faultproxy.Request) bool {
		return r.Method == method && strings.HasSuffix(r.Path, path) && r.Reached
	}, f)
}

func when(l *line, there func(faultproxy.Request) bool, f func()) {
	go func() {
		for end := time.Now().Add(time.Minute); !slices.ContainsFunc(l.proxy.Requests(), there); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				return
			}
		}
		f()
	}()
}

// TestPromise5GatewayKilled kills the gateway with SIGKILL and starts it again on the
// same sockets: a caller between two calls notices nothing, a call under way fails, and
// the plan runs at most once. Beside it stands what comes of a caller that submits
// again: that is another task, and it may be a second run.
func TestPromise5GatewayKilled(t *testing.T) {
	s := theServer(t)
	type killed struct {
		caller caller
		at     gatewayKilling
	}
	var all []killed
	for _, c := range realCallers() {
		if c.call != "run" && c.call != "raw" {
			continue
		}
		for _, k := range gatewayKillings() {
			if !k.idle || c.call == "raw" {
				all = append(all, killed{c, k})
			}
		}
	}
	if every, n, rng := choice(t); !every {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:min(max(n/5, 1), len(all))]
	}
	var rows []string
	for _, k := range all {
		t.Run(strings.ReplaceAll(k.caller.name+"/"+k.at.name, " ", "-"), func(t *testing.T) {
			rows = append(rows, fmt.Sprintf("| %s | %s | %s |", k.caller.name, k.at.name, k.at.try(t, s, k.caller)))
		})
	}
	fmt.Fprintf(os.Stdout, "\n| caller | the gateway is killed | the caller is told | the plan ran | submitted again |\n|---|---|---|---|---|\n%s\n\n", strings.Join(rows, "\n"))
}

func (k gatewayKilling) try(t *testing.T, s *Server, c caller) string {
	s.clear(t)
	l := lay(t, s, "nothing") // and the gateway on sockets that we hold
	home := t.TempDir()
	address, socket := listen(t)
	stomp, stompSocket := listen(t)
	start := func() {
		l.gateway = startGateway(t, home, []*os.File{socket, stompSocket}, "--upstream", l.proxy.URL(), "--listen", "fd:3",
			"--stomp-upstream", "tcp://guest:guest@"+l.relay.address, "--stomp-listen", "fd:4")
	}
	start()
	l.url, l.stomp = "http://"+address, stomp
	again := make(chan struct{})
	kill := sync.OnceFunc(func() {
		l.gateway.kill()
		start()
		close(again)
	})
	k.set(l, kill)
	file := filepath.Join(t.TempDir(), "lines")
	p := plan{"append_line", map[string]any{"path": file, "line": "x", "seconds": 2}}
	first, _ := c.ask(t, l, p, time.Minute)
	select {
	case <-again:
	case <-time.After(10 * time.Second):
		t.Errorf("the moment did not come: the caller was told %s\nrequests: %s", first, describe(l.proxy))
		return "no such moment | - | -"
	}
	time.Sleep(2500 * time.Millisecond) // what is late arrives
	s.settle(t)
	ran := lines(t, file)
	words := fmt.Sprintf("%s | %d x", brief(first), ran)
	if ran > 1 || first == "success" && ran != 1 || first == "hangs" || k.idle && first != "success" {
		t.Errorf("the caller was told %s, and the plan ran %d times\nrequests: %s\n%s", first, ran, describe(l.proxy), l.said())
		words = "**" + words + "**"
	}
	if first == "success" {
		return words + " | -"
	}
	second, _ := c.ask(t, l, p, time.Minute)
	s.settle(t)
	return fmt.Sprintf("%s | %s, ran %d x in all", words, brief(second), lines(t, file))
}
