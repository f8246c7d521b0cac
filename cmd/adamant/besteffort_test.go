package main

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"github.com/adamant-go/adamant/blueapi"
)

// TestTableAsBestEffortCallback compares what is printed for documents with what
// bluesky's own callback prints, recorded by testdata/besteffort.py.
func TestTableAsBestEffortCallback(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/besteffort.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Zone, Text string
		Docs             []blueapi.DataEvent
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	for _, tt := range cases {
		t.Run(tt.Name, func(t *testing.T) {
			t.Parallel()
			loc, err := time.LoadLocation(tt.Zone)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			table := newTable(&out, loc)
			for _, d := range tt.Docs {
				if err := table.document(d); err != nil {
					t.Log(err)
				}
			}
			if diff := cmp.Diff(tt.Text, out.String()); diff != "" {
				t.Errorf("-bluesky +table:\n%s", diff)
			}
		})
	}
}

// TestTableIsNotBroken gives the table documents of which any one member is missing
// or odd: it says so, and shows the next run as if nothing had been.
func TestTableIsNotBroken(t *testing.T) {
	t.Parallel()
	run := []blueapi.DataEvent{
		{Name: "start", Doc: json.RawMessage(`{"uid":"run","time":1,"scan_id":1,"plan_type":"generator","plan_name":"count","motors":["m"],"hints":{"dimensions":[[["m"],"primary"]]}}`)},
		{Name: "descriptor", Doc: json.RawMessage(`{"uid":"base","name":"baseline","data_keys":{"b":{"dtype":"number"}},"object_keys":{"b":["b"]},"hints":{"b":{"fields":["b"]}}}`)},
		{Name: "event", Doc: json.RawMessage(`{"descriptor":"base","time":1,"seq_num":1,"data":{"b":1},"filled":{"b":true}}`)},
		{Name: "descriptor", Doc: json.RawMessage(`{"uid":"d","name":"primary","data_keys":{"x":{"dtype":"number","precision":2},"s":{"dtype":"string"}},"object_keys":{"x":["x","s"]},"hints":{}}`)},
		{Name: "event", Doc: json.RawMessage(`{"descriptor":"d","time":1,"seq_num":1,"data":{"x":1,"s":"a"},"filled":{"x":true}}`)},
		{Name: "event_page", Doc: json.RawMessage(`{"descriptor":"d","uid":["a"],"time":[1],"seq_num":[2],"data":{"x":[1],"s":["b"]},"filled":{"x":[true]}}`)},
		{Name: "stop", Doc: json.RawMessage(`{"run_start":"run"}`)},
	}
	show := func(t *testing.T, table *table, out *strings.Builder, docs []blueapi.DataEvent) string {
		out.Reset()
		for _, d := range docs {
			if err := table.document(d); err != nil {
				t.Logf("%v: %s", err, d.Doc)
			}
		}
		return out.String()
	}
	var out strings.Builder
	table := newTable(&out, time.UTC)
	whole := show(t, table, &out, run)
	if !strings.Contains(whole, "\n|         2 | 00:00:01 ") && !strings.Contains(whole, "|         2 |   00:00:01 |") {
		t.Fatalf("the run is not shown:\n%s", whole)
	}
	odd := 0
	for i := range run {
		v, err := parsePython(run[i].Doc)
		if err != nil {
			t.Fatal(err)
		}
		for changed := range oddities(v) {
			docs := append([]blueapi.DataEvent(nil), run...)
			docs[i].Doc = json.RawMessage(dumps(changed, 0))
			show(t, table, &out, docs)
			odd++
			if got := show(t, table, &out, run); got != whole {
				t.Fatalf("after %s, the next run is\n%s", docs[i].Doc, got)
			}
		}
		for n := range run[i].Doc {
			docs := append([]blueapi.DataEvent(nil), run...)
			docs[i].Doc = run[i].Doc[:n]
			show(t, table, &out, docs)
		}
	}
	t.Logf("%d odd documents", odd)
}

// oddities are a value's neighbours: each of its members is missing, or another value.
func oddities(v any) func(yield func(any) bool) {
	return func(yield func(any) bool) {
		for _, other := range []any{nil, true, pyInt("7"), pyInt("-1"), 1e300, "", "text", []any{}, []any{nil}, pyDict{}, pyDict{{"x", nil}}} {
			if !yield(other) {
				return
			}
		}
		switch v := v.(type) {
		case pyDict:
			for i := range v {
				if !yield(append(append(pyDict{}, v[:i]...), v[i+1:]...)) {
					return
				}
				for changed := range oddities(v[i].value) {
					next := append(pyDict{}, v...)
					next[i].value = changed
					if !yield(next) {
						return
					}
				}
			}
		case []any:
			for i := range v {
				for changed := range oddities(v[i]) {
					next := append([]any{}, v...)
					next[i] = changed
					if !yield(next) {
						return
					}
				}
			}
		}
	}
}

func TestTableThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	table := newTable(fullDisk{}, time.UTC)
	if err := table.document(blueapi.DataEvent{Name: "stop", Doc: json.RawMessage(`{}`)}); err == nil || err.Error() != "no space left" {
		t.Errorf("%v", err)
	}
}

// BenchmarkTable shows one event of ten fields.
func BenchmarkTable(b *testing.B) {
	table := newTable(io.Discard, time.UTC)
	keys, data, times := pyDict{}, pyDict{}, pyDict{}
	for i := range 10 {
		name := "stage-field-" + string(rune('a'+i))
		keys = append(keys, pyItem{name, pyDict{{"dtype", "number"}, {"precision", pyInt("3")}}})
		data = append(data, pyItem{name, 1.25 * float64(i)})
		times = append(times, pyItem{name, 1795457220.3194})
	}
	for _, d := range []blueapi.DataEvent{
		{Name: "start", Doc: json.RawMessage(`{"uid":"r","time":1}`)},
		{Name: "descriptor", Doc: json.RawMessage(dumps(pyDict{
			{"uid", "d"},
			{"name", "primary"},
			{"data_keys", keys},
			{"object_keys", pyDict{{"stage", func() (all []any) {
				for _, k := range keys {
					all = append(all, k.key)
				}
				return
			}()}}},
		}, 0))},
	} {
		if err := table.document(d); err != nil {
			b.Fatal(err)
		}
	}
	event := blueapi.DataEvent{Name: "event", Doc: json.RawMessage(dumps(pyDict{
		{"uid", "e"},
		{"descriptor", "d"},
		{"time", 1795457220.3194},
		{"seq_num", pyInt("1")},
		{"data", data},
		{"timestamps", times},
		{"filled", pyDict{}},
	}, 0))}
	b.ReportAllocs()
	for b.Loop() {
		if err := table.document(event); err != nil {
			b.Fatal(err)
		}
	}
}
