package main

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
)

// TestPastResults: the server has forgotten the task, or there was none: what the journal
// has is told, with the exit status that run had.
func TestPastResults(t *testing.T) {
	t.Parallel()
	long := json.RawMessage(`"` + strings.Repeat("x", 20_000) + `"`)
	started := []journal.Step{journal.Starting, journal.Started}
	for _, tt := range []struct {
		name   string
		steps  []journal.Step
		end    *journal.End
		lives  bool
		status status
		out    string
		say    string
		json   string
	}{
		{
			"a result", started, &journal.End{Word: journal.Done, Reason: "ended", Outcome: "success", Type: "int", Result: json.RawMessage("7")}, false,
			statusDone, "Plan succeeded: 7\n", "this is what was recorded at",
			`{"task_id": "T", "outcome": {"outcome": "success", "result": 7, "type": "int"}}`,
		},
		{
			"a long result", started, &journal.End{Word: journal.Done, Reason: "ended", Outcome: "success", Type: "str", Result: long}, false,
			statusDone, "Plan succeeded\n", "what plan nap returned is not kept: 20002 bytes of type str",
			`{"task_id": "T", "outcome": {"outcome": "success", "type": "str", "result_size": 20002}}`,
		},
		{
			"a failure", started, &journal.End{Word: journal.Done, Reason: "ended", Outcome: "error", Type: "ValueError", Message: "boom"}, false,
			statusFailed, "Plan failed: ValueError: boom\n", "this is what was recorded at",
			`{"task_id": "T", "outcome": {"outcome": "error", "type": "ValueError", "message": "boom"}}`,
		},
		{
			"aborted", started, &journal.End{Word: journal.Done, Reason: "not recorded"}, false,
			statusUnknown, "", "plan nap was paused, aborted or stopped; how it ended is not recorded (task T)", `{"task_id": "T", "outcome": null}`,
		},
		{
			"unknown", started, &journal.End{Word: journal.Unknown, Reason: "silent"}, false,
			statusUnknown, "", "it is not known how plan nap ended (task T), nor does the server know now; 'adamant attach T' looks what can be found out",
			`{"task_id": "T", "outcome": null}`,
		},
		{"died in mid-plan", started, nil, false, statusUnknown, "", "'adamant attach T' looks what can be found out", `{"task_id": "T", "outcome": null}`},
		{"in another's hands", started, nil, true, statusStillRunning, "", "another process has it in hand", ""},
		{"busy", started[:1], &journal.End{Word: journal.NotStarted, Reason: "busy"}, false, statusBusy, "", "the server is busy with another plan", ""},
		{"interrupted", nil, &journal.End{Word: journal.NotStarted, Reason: "interrupted"}, false, statusNotStarted, "", "it is safe to run it again", ""},
		{"died before", nil, nil, false, statusNotStarted, "", "it is safe to run it again", ""},
		{"of a later version", nil, &journal.End{Word: journal.NotStarted, Reason: "moonlight"}, false, statusNotStarted, "", "plan nap was not started", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, url, _ := simulated(t)
			p := pastRunAt(t, url)
			p.task, p.env = rand.Text(), "E" // other tests have this journal too
			named := strings.NewReplacer("(task T)", "(task "+p.task+")", "attach T'", "attach "+p.task+"'", `"T"`, `"`+p.task+`"`)
			for _, s := range tt.steps {
				p.step(t, s)
			}
			if tt.steps == nil {
				p.task = ""
			}
			if tt.end != nil {
				p.ended(t, *tt.end)
			}
			if !tt.lives {
				p.leave(t)
			}
			stdout, stderr, got := runHere(t.Context(), url, "result")
			if got != tt.status || stdout != tt.out || !strings.Contains(stderr, named.Replace(tt.say)) {
				t.Errorf("exit status %d, stdout %q, stderr %q", got, stdout, stderr)
			}
			checkMessage(t, []string{"result"}, stderr)
			stdout, _, got = runHere(t.Context(), url, "result", p.id, "-o", "json")
			if got != tt.status || strings.TrimSpace(stdout) != named.Replace(tt.json) {
				t.Errorf("json: exit status %d, stdout %q", got, stdout)
			}
			entries := len(p.run(t).Entries)
			if want := len(tt.steps); entries != want && (tt.end == nil || entries != want+1) {
				t.Errorf("%d entries: a result was recorded by who only asks", entries)
			}
		})
	}
}

// TestRemarks: each standing of a run has words that say what to do, or how it ended.
func TestRemarks(t *testing.T) {
	t.Parallel()
	at := func(s journal.Step) journal.Entry { return journal.Entry{Step: s, Task: "T"} }
	end := func(w journal.Word, reason blueapi.Reason) journal.Entry {
		return journal.Entry{Step: journal.Ended, Task: "T", End: &journal.End{Word: w, Reason: reasonText(reason)}}
	}
	for _, tt := range []struct {
		entries []journal.Entry
		lives   bool
		want    string
	}{
		{nil, true, "goes on: intent"},
		{nil, false, "not started: its program was ended before that"},
		{[]journal.Entry{at(journal.Starting)}, true, "goes on: starting"},
		{[]journal.Entry{at(journal.Starting)}, false, "not settled: 'adamant attach T'"},
		{[]journal.Entry{at(journal.Starting), at(journal.NotSent)}, false, "not started: its program was ended before that"},
		{[]journal.Entry{at(journal.Starting), at(journal.Withdrawn)}, true, "goes on: withdrawn"},
		{[]journal.Entry{at(journal.Starting), at(journal.Started)}, false, "not settled: 'adamant attach T'"},
		{[]journal.Entry{end(journal.Done, blueapi.NotRecorded)}, true, "done: paused, aborted or stopped"},
		{[]journal.Entry{end(journal.Done, blueapi.Unpublished)}, false, "done: the broker was away: how it ended is not recorded"},
		{[]journal.Entry{end(journal.NotStarted, blueapi.Busy)}, false, "not started: busy"},
		{[]journal.Entry{end(journal.NotStarted, blueapi.JournalFailed)}, false, "not started: the journal failed"},
		{[]journal.Entry{end(journal.Unknown, blueapi.Silent)}, false, "unknown: silent; 'adamant attach T'"},
		{[]journal.Entry{end(journal.Unknown, blueapi.RecordLost)}, false, "unknown: record lost"},
		{[]journal.Entry{end(journal.Unknown, blueapi.Silent), at(journal.Started)}, false, "not settled: 'adamant attach T'"},
	} {
		run := journal.Run{Entries: tt.entries}
		p := pastRun{Run: run, stands: standingOf(run, tt.lives)}
		if got := string(p.stands) + ": " + p.remark(); got != tt.want {
			t.Errorf("%+v: %q, not %q", tt.entries, got, tt.want)
		}
	}
}

// TestSince: a time, or how long ago it was.
func TestSince(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 11, 24, 0, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"2026-11-24": day, "2026-11-24 15:30": day.Add(15*time.Hour + 30*time.Minute), "2026-11-24 15:30:01": day.Add(15*time.Hour + 30*time.Minute + time.Second),
	} {
		var s since
		if err := s.Set(text); err != nil || !time.Time(s).Equal(want) {
			t.Errorf("%s: %v, %v", text, time.Time(s), err)
		}
	}
	for text, want := range map[string]time.Duration{"90m": 90 * time.Minute, "1.5d": 36 * time.Hour, "0s": 0} {
		var s since
		err := s.Set(text)
		if ago := time.Since(time.Time(s)); err != nil || ago < want || ago > want+time.Minute {
			t.Errorf("%s: %v ago, %v", text, ago, err)
		}
	}
	for _, text := range []string{"", "d", "-1h", "-2d", "tomorrow", "24.11.2026", "1e400d"} {
		var s since
		if err := s.Set(text); err == nil {
			t.Errorf("%q: %v", text, time.Time(s))
		}
	}
}
