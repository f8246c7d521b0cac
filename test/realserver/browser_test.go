//go:build linux && realserver

package realserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// seenByPage is what a page in a browser saw.
type seenByPage struct {
	Polls    int
	Failures []string
	Runs     []string
}

// origin is where the page comes from, as a browser sees it.
const origin = "http://ui.test"

// TestPromise1Browser has a page in a browser, from another origin, ask for the state
// every 500 ms and run three plans, while answers are lost and the server is away: it
// sees no error, and each plan runs once.
func TestPromise1Browser(t *testing.T) {
	s := theServer(t)
	if _, err := script("need.sh", "chromium"); err != nil {
		t.Fatal(err)
	}
	through := throughWhat(t)
	if through == "exec" {
		through = "gateway" // a browser is no child of anybody
	}
	s.clear(t)
	s.allow(t)
	l := lay(t, s, through)
	const put, start = http.MethodPut, "/worker/task"
	l.proxy.LoseAnswer(put, start)
	l.proxy.Arm(faultproxy.Outage{Kind: faultproxy.Unavailable, For: time.Second, Request: 2, Method: put, Path: start})
	l.proxy.Arm(faultproxy.Outage{Kind: faultproxy.Reset, For: time.Second, Request: 3, Method: put, Path: start, Answered: true})
	file := filepath.Join(t.TempDir(), "lines")
	seen := browse(t, l.url, plan{"append_line", map[string]any{"path": file, "seconds": 1}}, 3)
	l.proxy.End()
	s.settle(t)
	b, _ := os.ReadFile(file) // it is not there if none ran
	ran := strings.Fields(string(b))
	fmt.Fprintf(os.Stdout, "\n| page in a browser | %d polls answered, %d failed %q; runs: %q; ran %v |\n\n",
		seen.Polls, len(seen.Failures), seen.Failures, seen.Runs, ran)
	good := len(seen.Failures) == 0 && slices.Equal(seen.Runs, []string{"success", "success", "success"}) && slices.Equal(ran, []string{"1", "2", "3"})
	if !good && through != "nothing" {
		t.Errorf("%+v; ran %v\nrequests: %s\n%s", seen, ran, describe(l.proxy), l.said())
	}
}

// allow has the server allow the page's origin, and no other, for the length of the test.
func (s *Server) allow(t *testing.T) {
	t.Helper()
	path := filepath.Join(s.Dir, "server.yaml")
	plain, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	serve := func(config []byte) {
		t.Helper()
		if err := os.WriteFile(path, config, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { serve(plain) })
	serve(bytes.Replace(plain, []byte("\napi:\n"), []byte("\napi:\n  cors: {origins: [\""+origin+"\"]}\n"), 1))
}

// browse opens the page, which finds the server at a URL, and waits until it has run the
// plan so often.
func browse(t *testing.T, api string, p plan, runs int) (seen seenByPage) {
	t.Helper()
	told := make(chan seenByPage, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /told", func(_ http.ResponseWriter, r *http.Request) {
		var v seenByPage
		if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
			t.Errorf("the page says: %v", err)
		}
		told <- v
	})
	mux.Handle("GET /", http.FileServer(http.Dir("testdata")))
	pages, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(pages) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	task, err := json.Marshal(map[string]any{"name": p.name, "params": p.params})
	if err != nil {
		t.Fatal(err)
	}
	page := origin + "/ui.html?" + url.Values{"api": {api}, "runs": {fmt.Sprint(runs)}, "task": {string(task)}}.Encode()
	log := new(safeBuffer)
	cmd := exec.Command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--user-data-dir="+t.TempDir(),
		"--host-resolver-rules=MAP ui.test:80 "+pages.Addr().String(), "--remote-debugging-port=0", page)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt) // in good order, or it leaves files behind in its directory
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}()
	select {
	case seen = <-told:
	case <-time.After(90 * time.Second):
		t.Errorf("the page says nothing\n%s", log)
	}
	return seen
}
