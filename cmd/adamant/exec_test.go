package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/config"
)

// caller is a program of this binary: one of those callers that never ask twice.
//
//	caller [-c FILE] get PATH...     prints the statuses of the answers
//	caller [-c FILE] run SECONDS     submits a nap, starts it and looks until it is over
//	caller -c FILE hear SECONDS      has a nap run, and waits for the event of its end
//	caller wait SIGNAL               waits for a signal, and says so
//
// Its server is the file's, or that of BLUEAPI_HOST.
func caller() {
	args := os.Args[1:]
	server := os.Getenv("BLUEAPI_HOST")
	var broker *blueapi.Broker
	if args[0] == "-c" {
		c, err := config.Load("", args[1])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if server, args = c.URL, args[2:]; c.Stomp.Enabled {
			broker = &blueapi.Broker{Address: strings.TrimPrefix(c.Stomp.URL, "tcp://")}
		}
	}
	asker := asker{server: server}
	switch args[0] {
	case "get":
		for _, path := range args[1:] {
			fmt.Println(asker.ask(http.MethodGet, path, "", nil))
		}
	case "run":
		asker.run(args[1])
	case "hear":
		asker.hear(broker, args[1])
	case "wait":
		came := make(chan os.Signal, 2)
		signal.Notify(came, syscall.SIGUSR1, syscall.SIGINT, syscall.SIGTERM)
		fmt.Println("ready")
		fmt.Println((<-came).String())
	}
}

type asker struct {
	server string
	errors int
}

// ask returns a status, or the error in its place.
func (a *asker) ask(method, path, body string, into any) string {
	r, err := http.NewRequest(method, a.server+path, strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	r.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		a.errors++
		return "no answer"
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.errors++
		return "no answer"
	}
	if into != nil {
		_ = json.Unmarshal(b, into)
	}
	return resp.Status
}

// run says how each step went, and pauses after it.
func (a *asker) run(seconds string) {
	say := func(format string, args ...any) {
		fmt.Printf(format+"\n", args...)
		time.Sleep(200 * time.Millisecond)
	}
	var task struct {
		ID         string `json:"task_id"`
		IsComplete bool   `json:"is_complete"`
	}
	request := fmt.Sprintf(`{"name": "nap", "params": {"seconds": %s}, "instrument_session": "cm12345-1"}`, seconds)
	for said := ""; task.ID == ""; say("submitted: %s", said) {
		said = a.ask(http.MethodPost, "/tasks", request, &task)
	}
	start := fmt.Sprintf(`{"task_id": %q}`, task.ID)
	for said := "no answer"; said == "no answer"; say("started: %s", said) {
		said = a.ask(http.MethodPut, "/worker/task", start, nil)
	}
	for end := time.Now().Add(20 * time.Second); !task.IsComplete && time.Now().Before(end); {
		said := a.ask(http.MethodGet, "/tasks/"+task.ID, "", &task)
		say("looked: %s", said)
	}
	fmt.Printf("complete: %v, errors: %d\n", task.IsComplete, a.errors)
}

// hear waits for the end as blueapi's Python client does, which asks for nothing then.
func (a *asker) hear(broker *blueapi.Broker, seconds string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l := broker.Listen(ctx)
	defer l.Close()
	if err := l.Subscribed(ctx); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var task struct {
		ID string `json:"task_id"`
	}
	a.ask(http.MethodPost, "/tasks", fmt.Sprintf(`{"name": "nap", "params": {"seconds": %s}, "instrument_session": "cm12345-1"}`, seconds), &task)
	fmt.Println("started:", a.ask(http.MethodPut, "/worker/task", fmt.Sprintf(`{"task_id": %q}`, task.ID), nil))
	fmt.Println(awaitEnd(ctx, l, task.ID))
}

// awaitEnd says of which task it has heard the end.
func awaitEnd(ctx context.Context, l *blueapi.Listener, task string) string {
	for {
		e, err := l.Next(ctx)
		if err != nil {
			return err.Error()
		}
		if w := e.Worker; w != nil && w.State == blueapi.StateIdle && w.Task != nil && w.Task.Complete && (task == "" || e.TaskID == task) {
			return "the end of " + e.TaskID
		}
	}
}

func TestPointing(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := file("a.yaml", "api: {url: http://a}\nstomp: {enabled: true, url: tcp://a:1}\n")
	b := file("b.yaml", "api: {url: http://b}\n")
	bare := file("bare.yaml", "api: {url: http://a}\n")
	brokenStomp := file("broken-stomp.yaml", "stomp: {enabled: perhaps}\n")
	rest := file("rest.yaml", "tiled: {}\n")
	foreign := file("foreign.yaml", "services: {}\n")
	broken := file("broken.yaml", "api: {url: 17}\n")
	missing := filepath.Join(dir, "missing.yaml")
	const gw = "http://127.0.0.1:1"

	for _, tt := range []struct {
		name       string
		own        []string // options before exec
		host, conf string   // BLUEAPI_HOST, BLUEAPI_CONFIG
		argv       []string
		url        string   // of the server; "": refused
		want       []string // argv; N-name stands for a copy
		wantConf   string
		broken     bool // the copies too
	}{
		{name: "default", argv: []string{"x"}, url: "http://localhost:8000", want: []string{"x"}},
		{name: "own host", own: []string{"-h", "http://o"}, argv: []string{"x"}, url: "http://o", want: []string{"x"}},
		{name: "own file", own: []string{"-c", a}, argv: []string{"x"}, url: "http://a", want: []string{"x"}},
		{name: "BLUEAPI_HOST", host: "http://o", argv: []string{"x"}, url: "http://o", want: []string{"x"}},
		{name: "its file", argv: []string{"python", "x.py", "-c", a}, url: "http://a", want: []string{"python", "x.py", "-c", "1-a.yaml"}},
		{name: "all forms", argv: []string{"x", "-c" + a, "--config", a, "--config=" + a}, url: "http://a", want: []string{"x", "-c1-a.yaml", "--config", "2-a.yaml", "--config=3-a.yaml"}},
		{name: "BLUEAPI_CONFIG", conf: a + " " + missing, argv: []string{"x"}, url: "http://a", want: []string{"x"}, wantConf: "1-a.yaml " + missing},
		{name: "not its files", argv: []string{"x", "-c", foreign, "-c", missing, "-c", "import os", "-c"}, url: "http://localhost:8000", want: []string{"x", "-c", foreign, "-c", missing, "-c", "import os", "-c"}},
		{name: "wrong in itself", argv: []string{"blueapi", "-c", broken}, url: "http://localhost:8000", want: []string{"blueapi", "-c", broken}},
		{name: "without an address", argv: []string{"x", "-c", rest}, url: "http://localhost:8000", want: []string{"x", "-c", "1-rest.yaml"}},
		{name: "two that agree", own: []string{"-c", a}, argv: []string{"x", "-c", a}, url: "http://a", want: []string{"x", "-c", "1-a.yaml"}},
		{name: "own file without the broker of its file", own: []string{"-c", bare}, argv: []string{"x", "-c", a}, url: "http://a", want: []string{"x", "-c", "1-a.yaml"}},
		{name: "own file, and one that is wrong in itself", own: []string{"-c", b}, argv: []string{"x", "-c", brokenStomp}, url: "http://b", want: []string{"x", "-c", "1-broken-stomp.yaml"}, broken: true},
		{name: "own file and another", own: []string{"-c", b}, argv: []string{"x", "-c", a}},
		{name: "own host over its file", own: []string{"-h", "http://o"}, argv: []string{"x", "-c", a}, url: "http://o", want: []string{"x", "-c", "1-a.yaml"}},
		{name: "BLUEAPI_HOST and another file", host: "http://o", argv: []string{"x", "-c", a}},
		{name: "BLUEAPI_HOST over blueapi's file", host: "http://o", argv: []string{"blueapi", "-c", a}, url: "http://o", want: []string{"blueapi", "-c", "1-a.yaml"}},
		{name: "two servers", argv: []string{"x", "-c", a, "-c", b}},
		{name: "two that blueapi merges", argv: []string{"uv", "run", "blueapi", "-c", a, "-c", b}, url: "http://b", want: []string{"uv", "run", "blueapi", "-c", "1-a.yaml", "-c", "2-b.yaml"}},
		{name: "blueapi takes no variable with an option", conf: b, argv: []string{"blueapi", "-c", a}, url: "http://a", want: []string{"blueapi", "-c", "1-a.yaml"}, wantConf: "2-b.yaml"},
		{name: "blueapi's host", host: "http://o", argv: []string{"/bin/blueapi", "-c", a, "-h", "http://p"}, url: "http://p", want: []string{"/bin/blueapi", "-c", "1-a.yaml", "-h", gw}},
		{name: "blueapi's host and own", own: []string{"-h", "http://o"}, argv: []string{"blueapi", "--host=http://p"}},
		{name: "python -m blueapi", argv: []string{"python", "-m", "blueapi", "--host=http://p"}, url: "http://p", want: []string{"python", "-m", "blueapi", "--host=" + gw}},
		{name: "another's -h", argv: []string{"psql", "-h", "http://p"}, url: "http://localhost:8000", want: []string{"psql", "-h", "http://p"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("BLUEAPI_HOST", tt.host)
			t.Setenv(configVariable, tt.conf)
			app := &app{ui: &ui{}}
			root := app.rootCommand("adamant")
			cmd, _, err := root.Traverse(slices.Concat(tt.own, []string{"exec", "--"}, tt.argv))
			if err == nil {
				err = fromEnvironment(cmd)
			}
			if err != nil {
				t.Fatal(err)
			}
			p := readPointing(tt.argv)
			c, err := p.server(app, cmd)
			if _, refused := errors.AsType[usageError](err); refused != (tt.url == "") || err != nil && !refused {
				t.Fatalf("%v", err)
			}
			if tt.url == "" {
				return
			}
			if c.URL != tt.url {
				t.Errorf("the server is %s", c.URL)
			}
			out := t.TempDir()
			argv, env, err := p.point(out, gw, "tcp://127.0.0.1:2")
			if err != nil {
				t.Fatal(err)
			}
			for i := range argv {
				argv[i] = strings.ReplaceAll(argv[i], out+"/", "")
			}
			if diff := cmp.Diff(tt.want, argv); diff != "" {
				t.Error(diff)
			}
			if got := strings.ReplaceAll(variable(env, configVariable), out+"/", ""); got != tt.wantConf {
				t.Errorf("BLUEAPI_CONFIG is %q", got)
			}
			if variable(env, "BLUEAPI_HOST") != gw || variable(env, "no_proxy") == "" {
				t.Errorf("BLUEAPI_HOST is %s", variable(env, "BLUEAPI_HOST"))
			}
			copies, err := os.ReadDir(out)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range copies {
				path := filepath.Join(out, entry.Name())
				info, err := entry.Info()
				if err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", path, info.Mode(), err)
				}
				made, err := config.Load("", path)
				if err != nil && tt.broken {
					continue
				}
				if err != nil || made.URL != gw || made.Stomp.Enabled && made.Stomp.URL != "tcp://127.0.0.1:2" {
					t.Errorf("%s points to %+v, %v", path, made, err)
				}
				if made.Stomp.Enabled && !c.Stomp.Enabled {
					t.Errorf("%s has a broker that the gateway does not know", path)
				}
			}
		})
	}
}

func TestWithoutProxy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ lower, upper, want string }{
		{"", "", "127.0.0.1"}, {"a,b", "c", "a,b,127.0.0.1"}, {"", "c", "c,127.0.0.1"},
	} {
		env := withoutProxy([]string{"no_proxy=" + tt.lower, "NO_PROXY=" + tt.upper})
		if variable(env, "no_proxy") != tt.want || variable(env, "NO_PROXY") != tt.want {
			t.Errorf("%v: %v", tt, env)
		}
	}
}

func TestExecTally(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tally := newExecTally(&notifier{})
	tally.report.Began, tally.report.Upstream = begin, "http://s"
	if said := tally.end(begin).lines(); len(said) != 0 {
		t.Errorf("of nothing: %q", said)
	}
	var records bytes.Buffer
	for _, line := range []recordLine{
		{Method: "GET", Status: 200, Attempts: 1},
		{Method: "GET", Status: 200, Attempts: 1, Deed: "merged"},
		{At: begin, Event: outageBegan},
		{At: begin, Event: outageBegan}, // by the gateway that came after
		{At: begin, Took: 1.25, Event: outageEnded},
		{Method: "GET", Status: 200, Attempts: 4, Resends: 3},
		{Method: "PUT", Status: 200, Task: "a", Attempts: 3, Deed: "settled"},
		{Method: "PUT", Status: 200, Task: "b", Attempts: 9, Deed: "replaced"},
		{Method: "PUT", Status: 504, Task: "a", Verdict: "unknown"}, // it was started before
		{Method: "PUT", Status: 504, Task: "c", Verdict: "unknown"},
		{Method: "PUT", Status: 504, Task: "d", Verdict: "unknown"},
		{Method: "PUT", Status: 200, Task: "d", Attempts: 3}, // when it was asked again
		{Method: "GET", Status: 404, Attempts: 1},
		{Method: "GET", Gone: true},
		{Method: "STOMP", Path: "/topic/public.worker.event", Task: "a", Deed: "healed"}, // of no request
		{Method: "GET", Status: 101, Attempts: 5, Task: "e"},
		{Method: "GET", Status: 101, Attempts: 5, Task: "f", Gone: true},
		{Method: "GET", Status: 101, Attempts: 5, Task: "g", Verdict: "unknown"},
		{Method: "GET", Status: 101, Attempts: 5, Task: "h", Verdict: "not-sent"},
		{Method: "GET", Status: 101, Attempts: 2}, // the server was busy
		{At: begin.Add(8 * time.Second), Event: outageBegan},
	} {
		b, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		records.Write(append(b, '\n'))
	}
	records.WriteString(`{"at": "2026-`) // of a gateway that was killed
	tally.read(&records)
	tally.restarted()
	r := tally.end(begin.Add(10 * time.Second))
	want := []string{
		"2 outages (longest 2.0 s) in 16 requests: 3 requests were sent again, 1 start settled without sending it again, " +
			"1 lost task started under its own id, 1 end event made up for, the gateway was started again once; 5 failed",
		"task c: it is not known whether it was started: 'adamant -h http://s task c' shows what the server has of it",
		"task g: it is not known whether it was started: 'adamant -h http://s task g' shows what the server has of it",
	}
	if diff := cmp.Diff(want, r.lines()); diff != "" {
		t.Error(diff)
	}
	path := filepath.Join(t.TempDir(), "r.json")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	var again execReport
	if err == nil {
		err = json.Unmarshal(b, &again)
	}
	if err != nil || !cmp.Equal(r, again) {
		t.Errorf("%v: %s", err, cmp.Diff(r, again))
	}
	for _, target := range []string{os.DevNull, path} { // as /dev/stdout can be either
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if err := r.write(link); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(link); err != nil || got != target {
			t.Errorf("the link to %s was replaced: %v", target, err)
		}
	}
	if !cmp.Equal(r.Started, []string{"a", "b", "d", "e", "f"}) || !r.Outages[1].Lasting || r.Outages[0].Lasting || r.Gone != 2 {
		t.Errorf("%s", b)
	}
}
