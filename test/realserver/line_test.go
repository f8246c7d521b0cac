//go:build linux && realserver

package realserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// line is what lies between callers and the server: a proxy that fails and a relay
// before the broker, and before both of them what is under test.
type line struct {
	server  *Server
	through string            // gateway, exec, or nothing: see THROUGH
	proxy   *faultproxy.Proxy // before the server
	relay   *relay            // before the broker
	gateway *gatewayProcess   // nil unless through it
	url     string            // where callers find the server
	stomp   string            // and the broker, host:port
	late    time.Duration     // how late a request may come to the server
	befalls sync.WaitGroup    // what happens to it by itself
}

// throughWhat is what THROUGH says.
func throughWhat(t *testing.T) string {
	t.Helper()
	switch through := os.Getenv("THROUGH"); through {
	case "":
		return "gateway"
	case "gateway", "exec", "nothing":
		return through
	default:
		t.Fatalf("THROUGH=%s: want gateway, exec or nothing", through)
		return ""
	}
}

// lay lays a line, which ends with the test. The options are the gateway's.
func lay(t *testing.T, s *Server, through string, options ...string) *line {
	t.Helper()
	proxy, err := faultproxy.Listen(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &line{server: s, through: through, proxy: proxy, relay: relayTo(t, s.STOMP)}
	l.url, l.stomp = proxy.URL(), l.relay.address
	if through == "gateway" {
		l.gateway = startGateway(t, t.TempDir(), nil, append(options, "--upstream", proxy.URL(), "--listen", "127.0.0.1:0",
			"--stomp-upstream", "tcp://guest:guest@"+l.relay.address, "--stomp-listen", "127.0.0.1:0")...)
		l.url, l.stomp = "http://"+l.gateway.at["http"], l.gateway.at["stomp"]
	}
	return l
}

// config writes a configuration for callers.
func (l *line) config(t *testing.T, broker bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "client.yaml")
	text := "api:\n  url: " + l.url + "\n"
	if broker {
		text += fmt.Sprintf("stomp:\n  enabled: true\n  url: tcp://%s/\n  auth:\n    username: guest\n    password: guest\n", l.stomp)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// said is what the gateway wrote to its log.
func (l *line) said() string {
	if l.gateway == nil {
		return ""
	}
	return l.gateway.stderr.String()
}

// command is a caller's command line: as it is or, through exec, behind that.
func (l *line) command(t *testing.T, config string, args []string) []string {
	t.Helper()
	if l.through != "exec" {
		return args
	}
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{bin, "-c", config, "exec", "--"}, args...)
}

// gatewayProcess is a gateway while it runs.
type gatewayProcess struct {
	cmd    *exec.Cmd
	at     map[string]string // what it listens for: its address
	stderr *safeBuffer
	gone   chan struct{} // closed when it has ended
	killed bool
}

// startGateway starts `adamant gateway` with a home directory, where its journal is. It finds the files as its descriptors from 3
// on, and waits until its listeners are open. It ends with the test: in good order, if
// it is still there.
func startGateway(t *testing.T, home string, files []*os.File, args ...string) *gatewayProcess {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	g := &gatewayProcess{at: make(map[string]string), stderr: new(safeBuffer), gone: make(chan struct{})}
	g.cmd = exec.Command(bin, append([]string{"gateway"}, args...)...)
	g.cmd.Env = homed(home)
	g.cmd.ExtraFiles = files
	g.cmd.Stderr = g.stderr
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- scanner.Text()
		}
		close(lines)
		_ = g.cmd.Wait() // its state tells
		close(g.gone)
	}()
	t.Cleanup(func() { g.stop(t) })
	want := 0
	for _, arg := range args {
		if strings.HasSuffix(arg, "listen") || arg == "--admin" {
			want++
		}
	}
	for end := time.After(10 * time.Second); len(g.at) < want; {
		select {
		case line, ok := <-lines:
			what, where, found := strings.Cut(line, " ")
			if !ok || !found {
				t.Fatalf("the gateway printed %q\n%s", line, g.stderr)
			}
			g.at[what] = where
		case <-end:
			t.Fatalf("the gateway listens on %v only\n%s", g.at, g.stderr)
		}
	}
	go func() {
		for range lines { // nothing else goes to stdout; a full pipe would stop it
		}
	}()
	return g
}

// stop ends it in good order.
func (g *gatewayProcess) stop(t *testing.T) {
	t.Helper()
	if g.killed {
		return
	}
	_ = g.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended just now
	select {
	case <-g.gone:
		if code := g.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the gateway ended with %v\n%s", g.cmd.ProcessState, g.stderr)
		}
	case <-time.After(15 * time.Second):
		g.kill()
		t.Errorf("the gateway did not end in 15 s\n%s", g.stderr)
	}
}

// kill ends it at once, with SIGKILL.
func (g *gatewayProcess) kill() {
	g.killed = true
	_ = g.cmd.Process.Kill() // fails if it has ended
	<-g.gone
}

// safeBuffer is a buffer that may be read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// listen opens a listening socket of the test's own, as systemd does: whoever serves it
// may come and go.
func listen(t *testing.T) (address string, socket *os.File) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err = l.(*net.TCPListener).File()
	if err = errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return l.Addr().String(), socket
}
