package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
)

// TestKeyIsForOneRun: what tells two runs apart is said, and what does not is not.
func TestKeyIsForOneRun(t *testing.T) {
	t.Parallel()
	const long = `{"a":"` // and more than is shown, or kept
	text := strings.Repeat("x", 20_000)
	for _, tt := range []struct {
		name                  string
		server, plan, session string
		then, now             string
		want                  []string
	}{
		{"the same", "http://h", "count", "cm1-1", `{"a": 1, "b": [2.50]}`, `{"b":[2.5],"a":1.0}`, nil},
		{"none, and none", "http://h", "count", "cm1-1", ``, `{}`, nil},
		{"long and the same", "http://h", "count", "cm1-1", long + text + `"}`, ` ` + long + text + `"}`, nil},
		{"long and other", "http://h", "count", "cm1-1", long + text + `"}`, long + text + `y"}`, []string{"params:", "not kept (20008 bytes)"}},
		{"parameters", "http://h", "count", "cm1-1", `{"a": 1}`, `{"a": "1"}`, []string{"params:", `then {"a": 1}`, `now  {"a": "1"}`}},
		{"plan", "http://h", "scan", "cm1-1", ``, ``, []string{"plan:     then count", "now  scan"}},
		{"session", "http://h", "count", "cm1-2", ``, ``, []string{"session:  then cm1-1", "now  cm1-2"}},
		{"server", "http://other", "count", "cm1-1", ``, ``, []string{"server:   then http://h", "now  http://other"}},
		{"all", "http://other", "scan", "cm1-2", `{"a":1}`, `{}`, []string{"server:", "plan:", "params:", "session:"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			then := journal.Run{
				Request: journal.Request{
					Server: "http://h", Plan: "count", Session: "cm1-1", Key: "dawn", Params: json.RawMessage(tt.then),
				},
				ParamsSize: len(tt.then), ParamsDigest: journal.Digest(json.RawMessage(tt.then)),
			}
			if len(tt.then) > 10_000 {
				then.Params = nil // as the journal does
			}
			j := &runJournal{server: tt.server}
			got := j.otherThan(then, blueapi.TaskRequest{Name: tt.plan, InstrumentSession: tt.session, Params: json.RawMessage(tt.now)})
			if (got == "") != (tt.want == nil) || len(got) > 1000 {
				t.Errorf("%q", got)
			}
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in %s", want, got)
				}
			}
		})
	}
}

// TestKeyStaysTaken: of the run that has the key it turns out that it was not started, but
// that cannot be recorded. Then the key is not tried again and again.
func TestKeyStaysTaken(t *testing.T) {
	t.Parallel()
	_, url, c := simulated(t)
	p := pastRunAt(t, url)
	p.leave(t)
	full := ownJournal(t)
	o, err := full.Own(t.Context(), p.id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	_ = full.Close()

	var stderr bytes.Buffer
	a := &app{ui: &ui{err: &stderr}}
	j := a.keepRuns(c, p.journal, url, "dawn")
	j.hold(p.id, o)
	w := &follower{app: a, client: c, plan: "nap"}
	r, free, err := w.comeAgain(t.Context(), j, p.run(t), blueapi.TaskRequest{Name: "nap", Params: json.RawMessage(`{"seconds":0}`)})
	if e, ok := errors.AsType[ending](err); r != nil || free || !ok || e.status != statusNotStarted {
		t.Errorf("free: %v, %v, %q", free, err, &stderr)
	}
}
