package blueapi_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/adamant-go/adamant/blueapi"
)

// TestExtra: what a later server says besides is kept, and only that.
func TestExtra(t *testing.T) {
	const answer = `{"task_id":"T","task":{"name":"count","params":{},"metadata":{}},"request_id":null,"is_complete":false,
		"is_pending":true,"errors":[],"outcome":null,"created_at":"2026-11-23","priority":{"n":1}}`
	var task blueapi.Task
	if err := json.Unmarshal([]byte(answer), &task); err != nil {
		t.Fatal(err)
	}
	want := blueapi.Extra{"created_at": json.RawMessage(`"2026-11-23"`), "priority": json.RawMessage(`{"n":1}`)}
	if d := cmp.Diff(want, task.Extra); d != "" || task.ID != "T" || !task.IsPending {
		t.Errorf("%+v: %s", task, d)
	}
	for _, into := range []any{new(blueapi.Plan), new(blueapi.Device), new(blueapi.Environment), new(blueapi.Task)} {
		if err := json.Unmarshal([]byte(`[]`), into); err == nil {
			t.Errorf("%T was read from a list", into)
		}
	}
}
