package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/adamant-go/adamant/blueapi"
)

var recordedThen = time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC)

// someEvents are a second apart.
func someEvents() []blueapi.Event {
	events := []blueapi.Event{
		eventOf(json.RawMessage(`{"state":"RUNNING","task_status":{"task_id":"T"}}`), recordedThen),
		eventOf(json.RawMessage(`{"name":"start","doc":{"x":1e3},"task_id":"T"}`), recordedThen),
		eventOf(json.RawMessage(`{"task_id":"U","statuses":{}}`), recordedThen),
		{Raw: json.RawMessage(`{"other":"kind"}`)},
		{Raw: json.RawMessage("no JSON\n\xff")},
		{Gap: &blueapi.Gap{From: recordedThen, Missed: 2, Attempts: 3, Err: errors.New("reset")}},
		{Gap: &blueapi.Gap{From: recordedThen, Until: recordedThen.Add(time.Minute)}},
	}
	for i := range events {
		events[i].At = recordedThen.Add(time.Duration(i) * time.Second)
	}
	return events
}

func played(t *testing.T, p *player) (events []blueapi.Event) {
	t.Helper()
	for {
		e, err := p.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return events
		} else if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
}

// sameError compares errors by what they say: that is all of one that is recorded.
var sameError = cmp.Comparer(func(a, b error) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Error() == b.Error()
})

// TestRecordFile: what is recorded, in two goes, is what is played.
func TestRecordFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.ndjson")
	want := someEvents()
	for _, events := range [][]blueapi.Event{want[:3], want[3:]} {
		r, err := openRecordFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if err := r.add(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	p, err := openPlayer(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if diff := cmp.Diff(want, played(t, p), sameError); diff != "" {
		t.Errorf("-recorded +played:\n%s", diff)
	}
}

// TestRecordFileCutOff: a line that a crash cut off, anywhere, costs no other line.
func TestRecordFileCutOff(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.ndjson")
	record := func() {
		r, err := openRecordFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range someEvents()[:2] {
			if err := r.add(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
	}
	record()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := strings.Index(string(whole), "\n") + 1
	for n := first; n < len(whole); n++ {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		record()
		p, err := openPlayer(path, 0)
		if err != nil {
			t.Fatal(err)
		}
		want := 3
		if n == len(whole)-1 {
			want = 4 // it lacked its end of line only
		}
		if got := played(t, p); len(got) != want || p.bad > 1 {
			t.Errorf("cut off after %d bytes: %d events, %d lines not read", n, len(got), p.bad)
		}
		_ = p.close()
	}
}

func TestRecordFileOfSomethingElse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "data.csv")
	const text = "x,y\n1,2"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openRecordFile(path); !errors.Is(err, errNotRecording) {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(path); string(b) != text || err != nil {
		t.Errorf("it has been changed: %q, %v", b, err)
	}
	p, err := openPlayer(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if _, err := p.Next(t.Context()); !errors.Is(err, errNotRecording) {
		t.Errorf("%v", err)
	}
	if _, err := openRecordFile(filepath.Join(path, "below")); err == nil {
		t.Error("a recording was opened where there can be none")
	}
}

// TestPlayerKeepsTime plays as fast as it is told to.
func TestPlayerKeepsTime(t *testing.T) {
	t.Parallel()
	var recording strings.Builder
	for _, e := range someEvents() {
		b, err := json.Marshal(recorded{At: e.At, Event: json.RawMessage(`{}`)})
		if err != nil {
			t.Fatal(err)
		}
		recording.Write(append(b, '\n'))
	}
	for speed, want := range map[float64]time.Duration{1: 6 * time.Second, 4: 1500 * time.Millisecond, 0.5: 12 * time.Second, 0: 0} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			p := newPlayer("", io.NopCloser(strings.NewReader(recording.String())), speed)
			if n := len(played(t, p)); n != 7 || time.Since(begin) != want {
				t.Errorf("at speed %v: %d events in %v", speed, n, time.Since(begin))
			}
		})
	}
}
