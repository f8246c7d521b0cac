//go:build linux

// Package realserver starts a real blueapi server and its RabbitMQ broker on
// loopback for tests, and does to the server what happens to servers. Most
// tests call Start.
//
// The first start on a machine installs what is missing, by the scripts beside
// this file, and takes minutes; later ones take about 15 s.
package realserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a running blueapi server and its broker.
type Server struct {
	URL          string // of the REST API
	STOMP        string // tcp://host:port of the broker
	Dir          string // working files; server.log and broker.log are there
	CLI          string // the Python client, blueapi
	ClientConfig string // a configuration for it
	Python       string // the interpreter that it is installed for

	down bool // Close stops it
}

// Start starts a server for a test, which ends with it. If REALSERVER_DIR names
// one that up.sh has started, the test shares that one and leaves it running:
// tests of several packages must then run one after another (go test -p 1).
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := Up()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Up is Start for a TestMain, which must call Close. If the test binary is
// killed the server ends with it all the same.
func Up() (*Server, error) {
	shared := os.Getenv("REALSERVER_DIR")
	args := []string{shared}
	if shared == "" {
		dir, err := os.MkdirTemp("", "realserver.")
		if err != nil {
			return nil, err
		}
		args = []string{"--owner", strconv.Itoa(os.Getpid()), dir}
	}
	out, err := script("up.sh", args...)
	if err != nil {
		return nil, err
	}
	env := make(map[string]string)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		env[name] = value
	}
	return &Server{
		URL: env["BLUEAPI_URL"], STOMP: env["STOMP_URL"], Dir: env["REALSERVER_DIR"],
		CLI: env["BLUEAPI_CLI"], ClientConfig: env["CLIENT_CONFIG"], Python: env["BLUEAPI_PY"],
		down: shared == "",
	}, nil
}

// Close stops the server and its broker and removes the directory, unless they
// are shared.
func (s *Server) Close() error {
	if !s.down {
		return nil
	}
	return errors.Join(s.ctl("down"), os.RemoveAll(s.Dir))
}

// PID is the server's main process. It leads a process group of its own, in
// which the worker is too.
func (s *Server) PID() (int, error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, "server.pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// Freeze stops all processes of the server for a time, as a stalled machine
// does, and returns at once. The channel is closed when they run again.
func (s *Server) Freeze(d time.Duration) (thawed <-chan struct{}, err error) {
	return s.freeze(d, -1)
}

// FreezeMain is Freeze for the process that answers requests alone: the worker,
// and a plan in it, runs on.
func (s *Server) FreezeMain(d time.Duration) (thawed <-chan struct{}, err error) {
	return s.freeze(d, 1)
}

// freeze stops the group of the main process if sign is -1.
func (s *Server) freeze(d time.Duration, sign int) (<-chan struct{}, error) {
	pid, err := s.PID()
	if err != nil {
		return nil, err
	}
	if err := syscall.Kill(sign*pid, syscall.SIGSTOP); err != nil {
		return nil, fmt.Errorf("freeze: %w", err)
	}
	done := make(chan struct{})
	time.AfterFunc(d, func() {
		_ = syscall.Kill(sign*pid, syscall.SIGCONT) // fails if it was killed meanwhile
		close(done)
	})
	return done, nil
}

// Kill ends the server and its worker at once, as when a container is killed.
// The broker stays.
func (s *Server) Kill() error { return s.ctl("kill") }

// Stop ends the server in good order, which waits for a running plan. The
// broker stays.
func (s *Server) Stop() error { return s.ctl("stop") }

// Again starts the server after Kill or Stop, on the same port and with a new
// environment, and returns when that is initialised.
func (s *Server) Again() error { return s.ctl("start") }

// AgainAny is Again, but is content with an environment that does not load, as when
// the broker is away.
func (s *Server) AgainAny() error { return s.ctl("start-any") }

// Restart is Stop and Again.
func (s *Server) Restart() error { return s.ctl("restart") }

// BrokerStop ends the broker in good order. The server stays.
func (s *Server) BrokerStop() error { return s.ctl("broker-stop") }

// BrokerStart starts the broker after BrokerStop, on the same port, and returns when
// that is open; the server finds it within 10 s (1.21.1).
func (s *Server) BrokerStart() error { return s.ctl("broker-start") }

func (s *Server) ctl(verb string) error {
	_, err := script("ctl.sh", s.Dir, verb)
	return err
}

// script runs one of the scripts beside this file, and returns what it printed.
func script(name string, args ...string) ([]byte, error) {
	_, here, _, _ := runtime.Caller(0)
	if !filepath.IsAbs(here) {
		return nil, errors.New("realserver: built with -trimpath: the scripts cannot be found")
	}
	cmd := exec.Command(filepath.Join(filepath.Dir(here), name), args...) //nolint:noctx // the scripts bound their own time
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// The processes that it starts inherit no pipe of ours, so Run returns.
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.Bytes(), nil
}
