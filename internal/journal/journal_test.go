package journal

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRunIsKept(t *testing.T) {
	dir := newDir(t)
	j := openIn(t, dir)
	want := Run{
		Request: Request{
			ID: "r1", At: noon, Server: "https://i22.example:8443/api", Plan: "count",
			Params: json.RawMessage(`{"detectors":["det"],"note":"a\u0000b é"}`), Session: "cm1-1", Key: "dawn",
		},
		Entries: []Entry{
			{Step: Starting, At: noon.Add(1), Task: "t1", Environment: "e1"},
			{Step: NotSent, At: noon.Add(2), Task: "t1", Environment: "e1"},
			{Step: Starting, At: noon.Add(3), Task: "t1", Environment: "e1"},
			{Step: Withdrawn, At: noon.Add(4), Task: "t1", Environment: "e1"},
			{Step: Starting, At: noon.Add(5), Task: "t2", Environment: "e1"},
			{Step: Started, At: noon.Add(6), Task: "t2", Environment: "e1"},
			{Step: Ended, At: noon.Add(7), Task: "t2", Environment: "e1", End: &End{
				Word: Done, Reason: "ended", Message: "plan\x00said \xff no", Outcome: "success", Type: "str",
				Result: json.RawMessage(`"x"`),
			}},
		},
	}
	o := begin(t, j, want.Request)
	record(t, o, want.Entries...)
	o.Close()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	got := find(t, openIn(t, dir), Query{})
	want.ParamsSize, want.ParamsDigest = len(want.Params), Digest(want.Params)
	want.Entries[6].End.ResultSize = 3
	want.Entries[6].End.Message = "plan\x00said  no"
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Run{}, "Process")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	p := got.Process
	if p.PID != os.Getpid() || p.Host == "" || p.User == "" {
		t.Errorf("process: %+v", p)
	}
	if task, env := got.Task(); task != "t2" || env != "e1" {
		t.Errorf("Task() = %q, %q", task, env)
	}
}

func TestQueries(t *testing.T) {
	j := openIn(t, newDir(t))
	for i := range 25 {
		r := request("r" + strconv.Itoa(i))
		if i < 2 {
			r.Key, r.Plan = "k"+strconv.Itoa(i), "other"
		}
		if i < 3 {
			r.Server, r.At = "http://other", noon.Add(-time.Hour)
		}
		o := begin(t, j, r)
		record(t, o, step(Starting, "t"+strconv.Itoa(i)))
		switch {
		case i < 21:
			record(t, o, end(Done))
		case i < 23:
			record(t, o, end(Unknown))
		}
		if i == 21 { // it turned out to go on
			record(t, o, step(Started, "t21"))
		}
	}
	for _, tt := range []struct {
		q    Query
		want []string
	}{
		{Query{Limit: 2}, []string{"r24", "r23"}},
		{Query{ID: "r7"}, []string{"r7"}},
		{Query{Task: "t8"}, []string{"r8"}},
		{Query{Task: "r8"}, nil},
		{Query{Key: "k1"}, []string{"r1"}},
		{Query{Key: "k1", Task: "t0"}, nil},
		{Query{Plan: "other"}, []string{"r1", "r0"}},
		{Query{Server: "http://other"}, []string{"r2", "r1", "r0"}},
		{Query{Server: "http://other", Plan: "count"}, []string{"r2"}},
		{Query{Since: noon, Limit: 1}, []string{"r24"}},
		{Query{Since: noon, Server: "http://other"}, nil},
		{Query{Word: Unknown}, []string{"r22"}},
		{Query{Word: Done, Limit: 1}, []string{"r20"}},
		{Query{Word: NotStarted}, nil},
		{Query{Unfinished: true}, []string{"r24", "r23", "r21"}},
		{Query{Unfinished: true, Limit: 1}, []string{"r24"}},
	} {
		if got := names(t, j, tt.q); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.q, got, tt.want)
		}
	}
	if got := names(t, j, Query{}); len(got) != 20 || got[0] != "r24" {
		t.Errorf("the zero Query: %v", got)
	}
	tasks, err := j.Tasks(t.Context(), "http://other")
	slices.Sort(tasks)
	if err != nil || !slices.Equal(tasks, []string{"t0", "t1", "t2"}) {
		t.Errorf("tasks %v, %v", tasks, err)
	}
}

func TestServerName(t *testing.T) {
	for server, want := range map[string]string{
		"http://h":                            "http://h",
		"HTTP://H:80/":                        "http://h",
		"https://u:p@H.example:443/api//?q#f": "https://h.example/api",
		"http://h:443":                        "http://h:443",
		"http://[::1]:80/a":                   "http://[::1]/a",
		"http://localhost:8000/base/":         "http://localhost:8000/base",
		"localhost:8000":                      "",
		"http://":                             "",
		"http://user:secret@":                 "",
	} {
		if got, err := ServerName(server); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", server, got, err, want)
		}
	}
}

// The rule of what a crash leaves behind: nothing was started if there is no task,
// or the last that is known of it is that it was not sent, or was withdrawn.
func TestNotStarted(t *testing.T) {
	for _, tt := range []struct {
		steps []Entry
		want  bool
	}{
		{nil, true},
		{[]Entry{step(Starting, "t")}, false},
		{[]Entry{step(Starting, "t"), step(NotSent, "t")}, true},
		{[]Entry{step(Starting, "t"), step(NotSent, "t"), step(Starting, "t")}, false},
		{[]Entry{step(Starting, "t"), step(Withdrawn, "t")}, true},
		{[]Entry{step(Starting, "t"), step(Withdrawn, "t"), step(Starting, "u")}, false},
		{[]Entry{step(Starting, "t"), step(Started, "t")}, false},
		{[]Entry{step(Starting, "t"), end(Done)}, false},
		{[]Entry{step(Starting, "t"), end(Unknown)}, false},
		{[]Entry{step(Starting, "t"), end(NotStarted)}, true},
		{[]Entry{step(Starting, "t"), end(Unknown), step(Withdrawn, "t"), end(NotStarted)}, true},
	} {
		if got := (Run{Entries: tt.steps}).NotStarted(); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.steps, got, tt.want)
		}
	}
}

func TestKey(t *testing.T) {
	for _, tt := range []struct {
		name  string
		steps []Entry
		lives bool // its owner
		taken bool
	}{
		{"not started, and nobody is left to", nil, false, false},
		{"not sent, and nobody is left to", []Entry{step(Starting, "t"), step(NotSent, "t")}, false, false},
		{"withdrawn, and nobody is left to make another", []Entry{step(Starting, "t"), step(Withdrawn, "t")}, false, false},
		{"its owner is about to start it", nil, true, true},
		{"its owner is about to start it again", []Entry{step(Starting, "t"), step(Withdrawn, "t")}, true, true},
		{"may have started", []Entry{step(Starting, "t")}, false, true},
		{"started", []Entry{step(Starting, "t"), step(Started, "t")}, false, true},
		{"done", []Entry{step(Starting, "t"), step(Started, "t"), end(Done)}, false, true},
		{"unknown", []Entry{step(Starting, "t"), end(Unknown)}, false, true},
		{"ended before it started", []Entry{end(NotStarted)}, false, false},
		{"ended before it started, its owner tells so", []Entry{end(NotStarted)}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := openIn(t, newDir(t))
			r := request("first")
			r.Key = "dawn"
			o := begin(t, j, r)
			record(t, o, tt.steps...)
			if !tt.lives {
				o.Close()
			}
			r.ID = "second"
			second, err := j.Begin(t.Context(), r)
			if !tt.taken {
				if err != nil {
					t.Fatal(err)
				}
				second.Close()
				return
			}
			taken, ok := errors.AsType[*KeyError](err)
			if !ok || taken.Run.ID != "first" || len(taken.Run.Entries) != len(tt.steps) {
				t.Fatalf("error %v", err)
			}
			if owned, err := j.Owned("second"); owned || err != nil {
				t.Errorf("the run that was refused is owned: %v, %v", owned, err)
			}
			if got := names(t, j, Query{}); !slices.Equal(got, []string{"first"}) {
				t.Errorf("runs %v", got)
			}
		})
	}
}

func TestKeyAtTheSameTime(t *testing.T) {
	dir := newDir(t)
	var owners, refused int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 10 {
		j := openIn(t, dir)
		wg.Go(func() {
			r := request("r" + strconv.Itoa(i))
			r.Key = "dawn"
			o, err := j.Begin(t.Context(), r)
			_, taken := errors.AsType[*KeyError](err)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				owners++
				t.Cleanup(o.Close)
			case taken:
				refused++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if owners != 1 || refused != 9 {
		t.Errorf("%d owners, %d refused", owners, refused)
	}
}

func TestNoSecrets(t *testing.T) {
	const secret = "s3cret"
	dir := newDir(t)
	j := openIn(t, dir)
	r := request("r")
	r.Server = "https://user:" + secret + "@i22.example/api?access_token=" + secret + "#" + secret
	o := begin(t, j, r)
	record(t, o, Entry{Step: Ended, At: noon, End: &End{
		Word:    Unknown,
		Message: "GET http://u:" + secret + "@h/x: no; then amqp://" + secret + "@h, ftp://a@b:" + secret + "@c",
	}})
	err := j.RecordCall(t.Context(), Call{ID: "c", At: noon, Attempts: []Attempt{{Cause: `Get "https://x:` + secret + `@h/": EOF`}}})
	if err != nil {
		t.Fatal(err)
	}
	got := find(t, j, Query{})
	if got.Server != "https://i22.example/api" {
		t.Errorf("server %q", got.Server)
	}
	if want := "GET http://h/x: no; then amqp://h, ftp://c"; got.End().Message != want {
		t.Errorf("message %q, want %q", got.End().Message, want)
	}
	for _, bad := range []string{"user:" + secret + "@host", "http://[" + secret, "http://user:" + secret + "@"} {
		r := request("r2")
		r.Server = bad
		if _, err := j.Begin(t.Context(), r); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: error %v", bad, err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), secret) {
			t.Errorf("%s has the secret", f.Name())
		}
		seen = seen || strings.Contains(string(b), "i22.example")
	}
	if !seen {
		t.Error("no file has the server either")
	}
}

func TestSizes(t *testing.T) {
	j := openIn(t, newDir(t))
	fits, long := json.RawMessage(strings.Repeat("1", maxJSON)), json.RawMessage(strings.Repeat("1", maxJSON+1))
	for i, params := range []json.RawMessage{fits, long} {
		r := request("r" + strconv.Itoa(i))
		r.Params = params
		o := begin(t, j, r)
		record(t, o, Entry{Step: Ended, At: noon, End: &End{Word: Done, Result: params, Message: strings.Repeat("é", maxText)}})
		got := find(t, j, Query{ID: r.ID})
		want := params
		if i == 1 {
			want = nil
		}
		if !slices.Equal(got.Params, want) || got.ParamsSize != len(params) || got.ParamsDigest != Digest(params) {
			t.Errorf("of %d bytes of parameters %d were kept, size %d", len(params), len(got.Params), got.ParamsSize)
		}
		if e := got.End(); !slices.Equal(e.Result, want) || e.ResultSize != len(params) || e.Message != strings.Repeat("é", maxText/2) {
			t.Errorf("of %d bytes of result %d were kept, size %d; message of %d", len(params), len(e.Result), e.ResultSize, len(e.Message))
		}
	}
	r := request(strings.Repeat("x", maxName+1))
	if _, err := j.Begin(t.Context(), r); err == nil {
		t.Error("an endless id was kept")
	}
}

func TestMistakes(t *testing.T) {
	j := openIn(t, newDir(t))
	for name, r := range map[string]Request{
		"no id":     {At: noon, Server: "http://h", Plan: "p"},
		"no plan":   {ID: "x", At: noon, Server: "http://h"},
		"no time":   {ID: "x", Server: "http://h", Plan: "p"},
		"no server": {ID: "x", At: noon, Plan: "p"},
	} {
		if _, err := j.Begin(t.Context(), r); err == nil {
			t.Errorf("%s: recorded", name)
		}
	}
	o := begin(t, j, request("r"))
	for name, e := range map[string]Entry{
		"no step":     {At: noon, Task: "t"},
		"an intent":   {Step: Intent, At: noon, Task: "t"},
		"no task":     {Step: Started, At: noon},
		"no time":     {Step: Starting, Task: "t"},
		"no end":      {Step: Ended, At: noon},
		"no word":     {Step: Ended, At: noon, End: &End{}},
		"a false end": {Step: Started, At: noon, Task: "t", End: &End{Word: Done}},
	} {
		if err := o.Record(t.Context(), e); err == nil {
			t.Errorf("%s: recorded", name)
		}
	}
	if got := find(t, j, Query{}); len(got.Entries) != 0 {
		t.Errorf("entries %v", got.Entries)
	}
	if _, err := j.Begin(t.Context(), request("r2")); err != nil {
		t.Error(err)
	}
	o.Close()
	if _, err := j.Begin(t.Context(), request("r")); err == nil {
		t.Error("two runs have one id")
	}
}

func TestCalls(t *testing.T) {
	j := openIn(t, newDir(t))
	var attempts []Attempt
	for i := range 50 {
		attempts = append(attempts, Attempt{Number: i + 1, At: noon, Waited: time.Second, Took: 2, Verdict: "not sent", Cause: strings.Repeat("é", 150)})
	}
	for i := range 30 {
		c := Call{ID: strconv.Itoa(i), Op: "GET /tasks", At: noon, Took: time.Minute, Outcome: "failed", Made: len(attempts), Attempts: attempts}
		if i%10 == 0 {
			c.Run = "r"
		}
		if err := j.RecordCall(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	calls, err := j.Calls(t.Context(), "r", 2)
	if err != nil || len(calls) != 2 || calls[0].ID != "20" || calls[1].ID != "10" {
		t.Fatalf("%v, %v", calls, err)
	}
	c := calls[0]
	if !c.At.Equal(noon) || c.Took != time.Minute || c.Made != 50 || len(c.Attempts) != maxAttempts {
		t.Errorf("%+v", c)
	}
	if first, second := c.Attempts[0], c.Attempts[1]; first.Number != 1 || second.Number != 32 || len(first.Cause) != maxCause {
		t.Errorf("attempts %+v", c.Attempts)
	}
	if all, err := j.Calls(t.Context(), "", 100); err != nil || len(all) != 30 {
		t.Errorf("%d calls, %v", len(all), err)
	}
}
