package blueapi

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestRecordedEvents holds the types to what 1.21.1 publishes: each member of each
// event has its place, and the kinds come out as the recorder of the sessions saw them.
func TestRecordedEvents(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/stomp/*.ndjson")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range bytes.Lines(raw) {
				line = bytes.TrimSpace(line)
				if len(line) == 0 {
					continue
				}
				e := decodeEvent(line, time.Unix(1, 0))
				var into any
				switch {
				case e.Worker != nil:
					into = new(WorkerEvent)
				case e.Progress != nil:
					into = new(struct {
						TaskID   string          `json:"task_id"`
						Statuses map[string]Move `json:"statuses"`
					})
				case e.Data != nil:
					into = new(struct {
						Name   string          `json:"name"`
						Doc    json.RawMessage `json:"doc"`
						TaskID string          `json:"task_id"`
					})
				default:
					t.Fatalf("of no kind: %s", line)
				}
				d := json.NewDecoder(bytes.NewReader(line))
				d.DisallowUnknownFields()
				if err := d.Decode(into); err != nil {
					t.Errorf("%v: %s", err, line)
				}
				if (e.Worker == nil || e.Worker.Task != nil) && e.TaskID == "" {
					t.Errorf("no task: %s", line)
				}
			}
		})
	}
}

// TestMovesKeepTheirOrder: the server's order is that in which they began.
func TestMovesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	e := decodeEvent([]byte(`{"task_id":"T","statuses":{"z":{"display_name":"Z","current":1.5},"a":{"done":true,"percentage":1.0},"m":{}}}`), time.Now())
	if e.Progress == nil {
		t.Fatal("no progress")
	}
	var ids []string
	for _, m := range e.Progress.Moves {
		ids = append(ids, m.ID)
	}
	if !slices.Equal(ids, []string{"z", "a", "m"}) || *e.Progress.Moves[0].Current != 1.5 || !e.Progress.Moves[1].Done {
		t.Errorf("%+v", e.Progress.Moves)
	}
}

// TestForeignEvents: what is published there by others, or by later servers, is no
// event of ours and does no harm.
func TestForeignEvents(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		``, `null`, `[]`, `"x"`, `{`, `{}`, `{"state":7}`, `{"state":null}`, `{"statuses":[]}`, `{"statuses":{"a":1}}`,
		`{"name":7,"doc":{}}`, `{"task_id":"T","kind":"new"}`, "\xff\xfe", `{"statuses":{"a":{}},"statuses":}`,
	} {
		e := decodeEvent([]byte(raw), time.Now())
		if e.Worker != nil || e.Progress != nil || e.Data != nil || string(e.Raw) != raw {
			t.Errorf("%q: %+v", raw, e)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(`{"state":"IDLE","task_status":null,"errors":[],"warnings":[]}`))
	f.Add([]byte(`{"task_id":"T","statuses":{"z":{"display_name":"Z","current":1.5}}}`))
	f.Add([]byte(`{"name":"start","doc":{"uid":"u"},"task_id":"T"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e := decodeEvent(raw, time.Now())
		kinds := 0
		for _, is := range []bool{e.Worker != nil, e.Progress != nil, e.Data != nil, e.Gap != nil} {
			if is {
				kinds++
			}
		}
		if kinds > 1 {
			t.Errorf("%d kinds", kinds)
		}
	})
}
