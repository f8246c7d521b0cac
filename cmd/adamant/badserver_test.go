package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"unicode"
)

// commands are all that ask a server, of adamant's own and of blueapi's.
func commands() (own, blueapis [][]string) {
	own = [][]string{
		{"state"},
		{"plans"},
		{"plans", "count"},
		{"devices"},
		{"devices", "stage.x"},
		{"tasks"},
		{"task", "T"},
		{"env"},
		{"env", "--reload"},
		{"python-env"},
		{"pause"},
		{"resume"},
		{"abort"},
		{"stop"},
		{"attach", "T"},
		{"watch", "T"},
		{"wait", "T"},
		{"result", "T"},
		{"clear"},
		{"clear", "--task", "T"},
		{"tasks", "--mine"},
		{"run", "count", "-i", "cm12345-1"},
		{"run", "count", "-i", "cm12345-1", "--bg", "-o", "json"},
	}
	for _, line := range []string{
		"state", "plans", "devices", "env", "env -r", "get-python-env", "pause", "resume", "abort", "stop",
		"run count -i cm12345-1",
	} {
		blueapis = append(blueapis, append([]string{"controller"}, strings.Fields(line)...))
	}
	return own, blueapis
}

// runHere runs a command line in this process.
func runHere(ctx context.Context, url string, args ...string) (stdout, stderr string, got status) {
	var out, errs bytes.Buffer
	got = run(ctx, append([]string{"adamant", "-h", url}, args...), &ui{in: strings.NewReader(""), out: &out, err: &errs})
	return out.String(), errs.String(), got
}

// TestBadServers: what answers is not blueapi, or cannot be trusted, or is not there.
// Each command says so in a line or two and never prints half a result.
func TestBadServers(t *testing.T) {
	t.Parallel()
	answer := func(status int, kind, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	page := strings.Repeat("<html>\x1b[2JLog in</html>\n", 100)
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		say    string // what the message has in any case
	}{
		{"a page", answer(200, "text/html", page), "not from a blueapi server"},
		{"an error page", answer(404, "text/html; charset=utf-8", page), "not from a blueapi server"},
		{
			"a login page", answer(302, "text/html", page, "Location", "https://login.example/auth?state=secret"),
			"redirected to https://login.example/auth",
		},
		{"another server's JSON", answer(200, "application/json", `{"hello": [1, 2]}`), "blueapi server"},
		{"another server's error", answer(404, "application/json", `{"error": "no such route"}`), "not from a blueapi server"},
		{"a bare list", answer(200, "application/json", `[]`), "blueapi server"},
		{"no JSON", answer(200, "application/json", `{"task_`, "X-Blueapi-Version", "1.21.1"), "blueapi server"},
		{"nothing", answer(204, "", ""), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(tt.answer)
			t.Cleanup(s.Close)
			own, blueapis := commands()
			for _, args := range own {
				stdout, stderr, got := runHere(t.Context(), s.URL, args...)
				if stdout != "" || got == statusDone || !strings.HasPrefix(stderr, "adamant: ") || !strings.Contains(stderr, tt.say) {
					t.Errorf("%q: exit status %d, stdout %q, stderr %q", args, got, stdout, stderr)
				}
				checkMessage(t, args, stderr)
			}
			for _, args := range blueapis {
				stdout, stderr, got := runHere(t.Context(), s.URL, args...)
				if strings.TrimPrefix(stdout, "Reloading environment\n") != "" || got != statusError || !strings.HasPrefix(stderr, "Error: ") {
					t.Errorf("%q: exit status %d, stdout %q, stderr %q", args, got, stdout, stderr)
				}
				checkMessage(t, args, stderr)
			}
		})
	}
}

// checkMessage: a message is short, is for people, and cannot move the cursor.
func checkMessage(t *testing.T, args []string, stderr string) {
	t.Helper()
	control := strings.IndexFunc(stderr, func(r rune) bool { return unicode.IsControl(r) && r != '\n' })
	if control >= 0 || len(stderr) > 1000 || strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "secret") {
		t.Errorf("%q: stderr %q", args, stderr)
	}
}

// TestUnreachable: the server's name, port or certificate is wrong.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	tls.StartTLS()
	t.Cleanup(tls.Close)
	for _, tt := range []struct{ name, url, say string }{
		{"no such host", "http://nonesuch.invalid:8000", "nonesuch.invalid"},
		{"nobody listens", "http://127.0.0.1:1", "connection refused"},
		{"certificate", tls.URL, "certificate"},
		{"no TLS", strings.Replace(newReplay(t, scene{}).URL, "http:", "https:", 1), "TLS handshake"},
	} {
		for _, line := range []string{"state", "abort", "resume", "env", "env --reload", "tasks", "run count -i cm12345-1"} {
			args := strings.Fields(line)
			t.Run(tt.name+" "+line, func(t *testing.T) {
				t.Parallel()
				stdout, stderr, got := runHere(t.Context(), tt.url, args...)
				want := statusError
				switch line {
				case "abort", "resume", "env --reload", "run count -i cm12345-1": // nothing was sent
					want = statusNotStarted
				}
				if stdout != "" || got != want || !strings.Contains(stderr, tt.say) {
					t.Errorf("exit status %d, not %d, stdout %q, stderr %q", got, want, stdout, stderr)
				}
				checkMessage(t, args, stderr)
			})
		}
	}
}

// TestBadURL: no request is made of what is no URL.
func TestBadURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"localhost:8000", "ftp://localhost", "http://", "nonsense", "http://[::1", "http://user:secret@:x/"} {
		own, blueapis := commands()
		for _, args := range append(own, blueapis...) {
			stdout, stderr, got := runHere(t.Context(), url, args...)
			if stdout != "" || got != statusError || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%s %q: exit status %d, stdout %q, stderr %q", url, args, got, stdout, stderr)
			}
			checkMessage(t, args, stderr)
		}
	}
}

// TestNewerServer: what a later blueapi adds to its answers is no error.
func TestNewerServer(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"/worker/state": `"DREAMING"`,
		"/worker/task":  `{"task_id": "T", "since": 1}`,
		"/environment":  `{"environment_id": "E", "initialized": true, "error_message": null, "python": "3.14"}`,
		"/plans":        `{"plans": [{"name": "count", "description": null, "schema": {}, "tags": ["a"]}], "more": true}`,
		"/plans/count":  `{"name": "count", "description": null, "schema": {}, "tags": ["a"]}`,
		"/devices":      `{"devices": [{"name": "x", "protocols": [{"name": "Readable", "types": [], "new": 1}], "parent": "y"}]}`,
		"/devices/x":    `{"name": "x", "protocols": [], "parent": "y"}`,
		"/tasks/T": `{"task_id": "T", "task": {"name": "count", "params": {}, "metadata": {}, "priority": 1}, "request_id": null,
			"is_complete": true, "is_pending": false, "errors": [], "outcome": {"outcome": "success", "result": 1, "type": "int", "at": 2}}`,
		"/python_environment": `{"installed_packages": [{"name": "a", "version": "1", "location": "/", "is_dirty": true, "source": "conda",
			"hash": "x"}], "scratch_enabled": true}`,
	}
	answers["/tasks"] = `{"tasks": [` + answers["/tasks/T"] + `], "next": null}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Blueapi-Version", "3.0.0")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, answers[strings.TrimPrefix(r.URL.Path, "/api/v1")])
	}))
	t.Cleanup(s.Close)
	for line, want := range map[string]string{
		"state":               "DREAMING\n",
		"state -o json":       `"DREAMING"` + "\n",
		"env":                 "E initialized\n",
		"plans":               "count\n",
		"plans count":         "count\n",
		"devices x":           "x\n\n",
		"tasks":               "T                                     complete  count  success\n",
		"task T":              "T count complete\n    Plan succeeded: 1\n",
		"env -o json":         `{"environment_id": "E", "initialized": true, "error_message": null, "python": "3.14"}` + "\n",
		"devices x -o json":   `{"name": "x", "protocols": [], "parent": "y"}` + "\n",
		"plans count -o json": `{"name": "count", "description": null, "parameter_schema": {}, "tags": ["a"]}` + "\n",
		"controller -o json plans": `[
  {
    "name": "count",
    "description": null,
    "parameter_schema": {}
  }
]
`,
		"python-env": "Scratch Status: enabled\n- a @ (1) (Dirty)\n",
	} {
		stdout, stderr, got := runHere(t.Context(), s.URL, strings.Fields(line)...)
		// On a busy machine an answer may need more than a second, and so a second attempt.
		if stdout != want || stderr != "" && !strings.HasPrefix(stderr, "adamant: server unreachable for ") || got != statusDone {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q", line, got, stdout, stderr)
		}
	}
	if _, stderr, got := runHere(t.Context(), s.URL, "pause"); got != statusError || !strings.Contains(stderr, "the worker is DREAMING") {
		t.Errorf("pause: exit status %d, stderr %q", got, stderr)
	}
}

// TestWedged: the server hangs in a reload: its environment answers, and nothing else.
func TestWedged(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/environment") {
			w.Header().Set("X-Blueapi-Version", "1.21.1")
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"environment_id": "E", "initialized": true, "error_message": null}`)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, "Internal Server Error")
	}))
	t.Cleanup(s.Close)
	for _, line := range []string{"state", "controller plans", "pause", "run count -i cm12345-1"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			_, stderr, got := runHere(t.Context(), s.URL, strings.Fields(line)...)
			if got == statusDone || !strings.Contains(stderr, "\nadamant: the server hangs in a reload") {
				t.Errorf("exit status %d, stderr %q", got, stderr)
			}
		})
	}
}

// TestHugeAnswers: what is big takes memory in proportion, and with it time. It runs
// alone, for the memory is counted of all the program.
func TestHugeAnswers(t *testing.T) {
	const size = 1 << 18
	answers := map[string]string{
		"/devices": `{"devices": [{"name": "x", "protocols": [{"name": "` + strings.Repeat("-", size) + strings.Repeat("a-b", size) +
			`", "types": []}]}]}`,
		"/plans": `{"plans": [{"name": "p", "description": "` + strings.Repeat(` x\n`, size) + `", "schema": {}}]}`,
		"/tasks/T": `{"task_id": "T", "task": {"name": "n", "params": {}, "metadata": {}}, "request_id": null, "is_complete": true,
			"is_pending": false, "errors": [], "outcome": {"outcome": "success", "type": "list", "result": [1` +
			strings.Repeat(", 1", size) + `]}}`,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Blueapi-Version", "1.21.1")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, answers[strings.TrimPrefix(r.URL.Path, "/api/v1")])
	}))
	t.Cleanup(s.Close)
	for _, line := range []string{"devices", "devices -o json", "plans", "plans -o full", "task T", "task T -o json"} {
		t.Run(line, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			stdout, stderr, got := runHere(t.Context(), s.URL, strings.Fields(line)...)
			runtime.ReadMemStats(&after)
			if len(stdout) < size || got != statusDone {
				t.Errorf("exit status %d, %d bytes of stdout, stderr %q", got, len(stdout), stderr)
			}
			if ratio := (after.TotalAlloc - before.TotalAlloc) / size; ratio > 1000 { // some 300 are usual
				t.Errorf("%d bytes of memory for each", ratio)
			}
		})
	}
}

// TestNoPlans: an environment that has loaded nothing is named as that.
func TestNoPlans(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Blueapi-Version", "1.21.1")
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/plans") {
			fmt.Fprint(w, `{"plans":[]}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"detail":"Item not found"}`)
	}))
	defer server.Close()
	_, stderr, got := runHere(t.Context(), server.URL, "run", "count", "-i", "cm12345-1")
	if want := "adamant: Plan 'count' was not recognised" + noPlans + "\n"; got != statusUsage || stderr != want {
		t.Errorf("status %d, %q, not %q", got, stderr, want)
	}
}
