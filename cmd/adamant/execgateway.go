package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/adamant-go/adamant/internal/config"
)

const (
	// readyLimit is how long a gateway may take until it serves; it takes some
	// milliseconds, and more on a machine that is busy.
	readyLimit = 15 * time.Second
	// endLimit is how long it may take to end, when its command has.
	endLimit = 5 * time.Second
	// drainLimit is how long a request is served whose caller outlives the command.
	drainLimit = 2 * time.Second
	// startsInVain is how often a gateway may fail to start in a row until it is
	// given up.
	startsInVain = 5
	// longestPause is between two starts.
	longestPause = 800 * time.Millisecond
	// steadyTime is how long a gateway runs that is not said to have failed to start.
	steadyTime = 10 * time.Second
)

// ownGateway is a gateway for one command: a process that is started again when it
// dies. It holds the sockets itself, so that callers who come meanwhile wait.
type ownGateway struct {
	url, broker string // where it is; broker is empty if there is none
	verbose     bool   // its log is shown
	say         func(format string, args ...any)
	log         io.Writer
	tally       *execTally

	config   string // its file
	sockets  []*os.File
	records  *os.File // the end that gateways write to
	lifeline *os.File // the end that nobody writes to, and whose closing ends gateways
	theirs   *os.File // the other end

	reading sync.WaitGroup
	running sync.WaitGroup
	stop    chan struct{}
}

// openGateway opens the sockets, and writes the file of a gateway in front of a server.
func openGateway(ctx context.Context, dir string, c config.Config, wait time.Duration) (g *ownGateway, err error) {
	g = &ownGateway{stop: make(chan struct{})}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	addr, err := g.listen(ctx)
	if err != nil {
		return nil, err
	}
	g.url = "http://" + addr
	listen := map[string]any{"http": "fd:3"}
	upstream := map[string]any{"url": serverURL(c.URL), "listen": listen}
	if c.Stomp.Enabled {
		if addr, err = g.listen(ctx); err != nil {
			return nil, err
		}
		g.broker = "tcp://" + addr
		at, broker := map[string]any{"address": "fd:4"}, map[string]any{"url": c.Stomp.URL}
		if c.Stomp.Username != "" { // callers must know what they had to know before
			for _, section := range []map[string]any{at, broker} {
				section["login"], section["passcode"] = c.Stomp.Username, c.Stomp.Password
			}
		}
		listen["stomp"], upstream["stomp"] = at, broker
	}
	next := len(g.sockets) + 3
	file := map[string]any{
		"upstream": upstream, "records": fmt.Sprintf("fd:%d", next),
		"timeouts": map[string]any{"drain": drainLimit.String()},
	}
	if wait > 0 {
		file["timeouts"] = map[string]any{"drain": drainLimit.String(), "wait": wait.String()}
	}
	if path := filepath.Join(dir, "admin"); len(path) <= maxSocketPath {
		file["admin"] = "unix:" + path
	}
	b, err := json.Marshal(file) // which is YAML, and has no variables in quotes
	if err != nil {
		return nil, err
	}
	g.config = filepath.Join(dir, "gateway.yaml")
	return g, os.WriteFile(g.config, b, 0o600)
}

// maxSocketPath is how long the name of a socket may be: 104 bytes on macOS, with those
// under which it is made first.
const maxSocketPath = 80

// listen opens a socket on a free port. Nothing here takes connections from it.
func (g *ownGateway) listen(ctx context.Context) (addr string, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	f, err := l.(*net.TCPListener).File() // of which the socket goes on
	if err != nil {
		return "", err
	}
	g.sockets = append(g.sockets, f)
	return l.Addr().String(), nil
}

// start starts the gateway, and returns when it serves.
func (g *ownGateway) start() error {
	records, written, err := os.Pipe()
	if err != nil {
		return err
	}
	g.records = written
	if g.theirs, g.lifeline, err = os.Pipe(); err != nil {
		_ = records.Close()
		return err
	}
	g.reading.Go(func() {
		g.tally.read(records)
		_ = records.Close()
	})
	first := make(chan error, 1)
	g.running.Go(func() {
		// The system ends a gateway with the thread that started it: this one lives as
		// long as exec.
		runtime.LockOSThread()
		g.keep(first)
	})
	return <-first
}

// keep keeps a gateway running until it is told to stop. What became of the first one
// is told as soon as it is known.
func (g *ownGateway) keep(first chan<- error) {
	vain := 0
	for {
		began := time.Now()
		p, err := g.run()
		if err == nil {
			if first != nil {
				first <- nil
				first = nil
			}
			if stopped := g.watch(p); stopped {
				return
			}
			err = p.trouble()
		}
		if first != nil {
			first <- err
			return
		}
		if g.isStopped() {
			return
		}
		if time.Since(began) > steadyTime {
			vain = 0
		}
		if vain++; vain > startsInVain {
			g.say("the gateway dies each time that it is started: %v", err)
			g.say("the command goes on without it, and what it asks of the server fails")
			for _, f := range g.sockets { // who waits in vain is told so
				_ = f.Close()
			}
			return
		}
		g.tally.restarted()
		if vain > 1 {
			pause := time.NewTimer(min(50*time.Millisecond<<vain, longestPause))
			select {
			case <-pause.C:
			case <-g.stop:
				pause.Stop()
				return
			}
		}
	}
}

func (g *ownGateway) isStopped() bool {
	select {
	case <-g.stop:
		return true
	default:
		return false
	}
}

// gatewayRun is one process of a gateway.
type gatewayRun struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has ended, and err is set
	err    error
	mu     sync.Mutex
	said   []string // its last lines on stderr
	output sync.WaitGroup
}

// run starts a process, and waits until it serves.
func (g *ownGateway) run() (*gatewayRun, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	level := "-q"
	if g.verbose {
		level = "-v"
	}
	n := len(g.sockets) + 3
	p := &gatewayRun{ended: make(chan struct{})}
	//nolint:noctx // it is ended by stop, in its own way
	p.cmd = exec.Command(exe, level, "gateway", "--config", g.config, "--lifeline", fmt.Sprintf("fd:%d", n+1))
	p.cmd.Args[0] = "adamant"
	p.cmd.Env = withoutBlueapi(os.Environ())
	p.cmd.ExtraFiles = append(slices.Clone(g.sockets), g.records, g.theirs)
	p.cmd.SysProcAttr = apart()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	serving := make(chan struct{})
	p.output.Go(func() {
		r := bufio.NewReader(stdout)
		if line, err := r.ReadString('\n'); err == nil && line != "" { // all lines come at once
			close(serving)
		}
		_, _ = io.Copy(io.Discard, r)
	})
	p.output.Go(func() {
		for r := bufio.NewReader(stderr); ; { // to its end, or the gateway would stand still
			line, err := r.ReadString('\n')
			if line = strings.TrimSuffix(line, "\n"); line != "" {
				p.hear(line)
				if g.verbose {
					fmt.Fprintln(g.log, line)
				}
			}
			if err != nil {
				return
			}
		}
	})
	go func() { // ends with the process
		p.output.Wait()
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	select {
	case <-serving:
		return p, nil
	case <-p.ended:
		return nil, p.trouble()
	case <-g.stop:
	case <-limit.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	return nil, fmt.Errorf("it did not serve within %v", readyLimit)
}

// withoutBlueapi leaves out the variables that stand for options, since the gateway has
// its file; and systemd's, which are about exec.
func withoutBlueapi(env []string) (rest []string) {
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		switch {
		case strings.HasPrefix(name, "BLUEAPI_"), strings.HasPrefix(name, "LISTEN_"), strings.HasPrefix(name, "WATCHDOG_"), name == "NOTIFY_SOCKET":
		default:
			rest = append(rest, v)
		}
	}
	return rest
}

// watch waits for the end of a process, and ends it if the gateway is to stop.
func (g *ownGateway) watch(p *gatewayRun) (stopped bool) {
	select {
	case <-p.ended:
		return g.isStopped()
	case <-g.stop:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return true
}

// hear keeps the last lines that a process has written.
func (p *gatewayRun) hear(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.said = append(p.said, line); len(p.said) > 10 {
		p.said = p.said[1:]
	}
}

// trouble says why a process has ended.
func (p *gatewayRun) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.said) > 0 {
		said := strings.TrimPrefix(strings.Join(p.said, "\n"), "adamant: ")
		return errors.New(strings.TrimSuffix(said, orNoJournal)) // exec has no such option
	}
	if p.err == nil {
		return errors.New("it ended by itself")
	}
	return p.err
}

// end ends the gateway, and reads its last records.
func (g *ownGateway) end() {
	close(g.stop)
	g.running.Wait()
	g.close()
	g.reading.Wait()
}

func (g *ownGateway) close() {
	for _, f := range append(g.sockets, g.records, g.theirs, g.lifeline) {
		if f != nil {
			_ = f.Close()
		}
	}
}
