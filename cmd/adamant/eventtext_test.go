package main

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/adamant-go/adamant/blueapi"
)

// TestEventTextAsBlueapi compares the words for events with those of blueapi's client,
// recorded by testdata/eventtext.py.
func TestEventTextAsBlueapi(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/eventtext.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Raw                 json.RawMessage
		Compact, Full, JSON string
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	for _, tt := range cases {
		e := eventOf(tt.Raw, time.Time{})
		for f, want := range map[format]string{compact: tt.Compact, full: tt.Full, jsonText: tt.JSON} {
			if got, err := f.event(e); err != nil || got != want {
				t.Errorf("%s of %s: %v\n%s", f, tt.Raw, err, cmp.Diff(want, got))
			}
		}
	}
}

func TestEventTextOfOthers(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 1, 2, 3, 500e6, time.UTC)
	for _, tt := range []struct {
		name          string
		event         blueapi.Event
		compact, json string
		fails         bool
	}{
		{
			"begin of a gap",
			blueapi.Event{Gap: &blueapi.Gap{From: at, Attempts: 2, Err: errors.New("refused")}},
			"the broker is away: events may be missing (refused)\n",
			`{"gap":{"from":"2026-11-24T01:02:03.5Z","until":null,"missed":0,"attempts":2,"error":"refused"}}` + "\n", false,
		},
		{
			"end of a gap",
			blueapi.Event{Gap: &blueapi.Gap{From: at, Until: at.Add(1250 * time.Millisecond)}},
			"the broker is back after 1.2 s: events may be missing\n",
			`{"gap":{"from":"2026-11-24T01:02:03.5Z","until":"2026-11-24T01:02:04.75Z","missed":0,"attempts":0}}` + "\n", false,
		},
		{
			"dropped",
			blueapi.Event{Gap: &blueapi.Gap{Missed: 3}},
			"3 events were dropped\n",
			`{"gap":{"from":null,"until":null,"missed":3,"attempts":0}}` + "\n", false,
		},
		{"unknown", blueapi.Event{Raw: json.RawMessage(`{"a":1}`)}, "", "", true},
		{"no JSON", blueapi.Event{Raw: json.RawMessage(`{`)}, "", "", true},
		{"nothing", blueapi.Event{}, "", "", true},
	} {
		for f, want := range map[format]string{compact: tt.compact, full: tt.compact, jsonText: tt.json} {
			if got, err := f.event(tt.event); got != want || (err != nil) != tt.fails {
				t.Errorf("%s of %s: %q, not %q; %v", f, tt.name, got, want, err)
			}
		}
	}
}
