package journal

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

const day = 24 * time.Hour

// put makes a run that was begun some time before noon.
func put(t *testing.T, j *Journal, id, key string, before time.Duration, entries ...Entry) *Owner {
	t.Helper()
	r := request(id)
	r.Key, r.At = key, noon.Add(-before)
	r.Params = json.RawMessage(`"` + strings.Repeat("x", 4000) + `"`)
	o := begin(t, j, r)
	record(t, o, entries...)
	return o
}

func prune(t *testing.T, j *Journal) []string {
	t.Helper()
	if err := j.prune(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	checkIntegrity(t, j)
	return names(t, j, Query{Limit: 10_000})
}

func TestOldRunsGo(t *testing.T) {
	j := openIn(t, newDir(t))
	put(t, j, "old", "", 91*day, step(Starting, "t1"), end(Done)).Close()
	put(t, j, "old-key", "k", 91*day, end(Done)).Close()
	put(t, j, "young", "", 89*day, end(Done)).Close()
	put(t, j, "young-key", "l", 89*day, end(Done)).Close()
	put(t, j, "open", "", 91*day, step(Starting, "t2")).Close()
	put(t, j, "lost", "", 366*day, step(Starting, "t3")).Close()
	put(t, j, "owned", "", 366*day, step(Starting, "t4"))
	if got, want := prune(t, j), []string{"owned", "open", "young-key", "young"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestManyRunsGo(t *testing.T) {
	j := openIn(t, newDir(t))
	j.limits.runs, j.limits.keys = 3, 5
	for i := range 10 {
		put(t, j, fmt.Sprint("r", i), "", 0, end(Done)).Close()
		put(t, j, fmt.Sprint("k", i), fmt.Sprint(i), 0, end(Done)).Close()
	}
	put(t, j, "open", "", 0).Close()
	for range 5 {
		put(t, j, fmt.Sprint("last", len(names(t, j, Query{Limit: 100}))), "", 0).Close()
	}
	got := prune(t, j)[5:]
	if want := []string{"open", "k9", "r9", "k8", "r8", "k7", "r7", "k6", "k5"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Runs are not forgotten to make room, or a key would be: what they asked for and
// got is.
func TestFileStaysSmall(t *testing.T) {
	j := openIn(t, newDir(t))
	j.limits.bytes, j.limits.every = 1<<20, 50
	put(t, j, "open", "", 0, step(Starting, "t")).Close()
	e := end(Done)
	e.End.Result = json.RawMessage(`"` + strings.Repeat("y", 4000) + `"`)
	for i := range 300 { // 2.4 MB
		put(t, j, fmt.Sprint(i), fmt.Sprint("k", i), 0, step(Starting, fmt.Sprint("t", i)), e).Close()
	}
	if got := names(t, j, Query{Limit: 1000}); len(got) != 301 {
		t.Errorf("%d runs", len(got))
	}
	for id, kept := range map[string]bool{"open": true, "0": false, "100": false, "260": true, "299": true} {
		r := find(t, j, Query{ID: id})
		if (r.Params != nil) != kept || r.ParamsSize != 4002 {
			t.Errorf("%s: %d bytes of parameters, said to be %d", id, len(r.Params), r.ParamsSize)
		}
		if e := r.End(); e != nil && ((e.Result != nil) != kept || e.ResultSize != 4002) {
			t.Errorf("%s: %d bytes of result, said to be %d", id, len(e.Result), e.ResultSize)
		}
	}
	checkIntegrity(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(j.path); err != nil || info.Size() > 2<<20 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
}

func TestCallsAreBounded(t *testing.T) {
	j := openIn(t, newDir(t))
	for i := range maxCalls + 20 {
		if err := j.RecordCall(t.Context(), Call{ID: fmt.Sprint(i), At: noon}); err != nil {
			t.Fatal(err)
		}
	}
	calls, err := j.Calls(t.Context(), "", 2*maxCalls)
	if err != nil || len(calls) != maxCalls || calls[0].ID != fmt.Sprint(maxCalls+19) {
		t.Errorf("%d calls, %v", len(calls), err)
	}
}
