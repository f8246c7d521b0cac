package main

import (
	"encoding/json"
	"os"
	"testing"
)

// TestParamsAsPydantic checks parameters against what pydantic takes, recorded by
// testdata/params.py: nothing that it takes is refused, and most of what it
// refuses is.
func TestParamsAsPydantic(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/params.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Type    string
		Schema  json.RawMessage
		Takes   []json.RawMessage
		Refuses []json.RawMessage
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	found, missed := 0, 0
	for _, tt := range cases {
		check := paramsCheck{schema: schemaOf(tt.Schema)}
		for _, v := range tt.Takes {
			if wrong := check.complaints(t.Context(), params{{name: "p", json: v}}); wrong != nil {
				t.Errorf("%s takes %s: %q", tt.Type, v, wrong)
			}
		}
		for _, v := range tt.Refuses {
			if check.complaints(t.Context(), params{{name: "p", json: v}}) != nil {
				found++
			} else {
				missed++
				t.Logf("%s refuses %s", tt.Type, v)
			}
		}
	}
	if t.Logf("%d of what is wrong is found, %d is left to the server", found, missed); found < 1000 {
		t.Error("the check finds too little")
	}
}
