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
	put(t, j, "lost", "", 366*day, step(Starting, "t3")).Close()
	put(t, j, "old", "", 91*day, step(Starting, "t1"), end(Done)).Close()
	put(t, j, "old-key", "k", 91*day, end(Done)).Close()
	put(t, j, "young", "", 89*day, end(Done)).Close()
	put(t, j, "young-key", "l", 89*day, end(Done)).Close()
	put(t, j, "open", "", 91*day, step(Starting, "t2")).Close()
	put(t, j, "owned", "", 366*day, step(Starting, "t4"))
	if got, want := prune(t, j), []string{"owned", "open", "young-key", "young"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestWrongClock: what a clock that was wrong once says of a run does not have it, nor
// others, forgotten early: their keys would be free.
func TestWrongClock(t *testing.T) {
	for name, wrong := range map[string]time.Duration{"slow": 50 * 365 * day, "fast": -10 * 365 * day} {
		t.Run(name, func(t *testing.T) {
			j := openIn(t, newDir(t))
			j.limits.every = 1
			put(t, j, "before", "a", 2*day, step(Starting, "t1"), end(Done)).Close()
			put(t, j, "crashed before", "b", 2*day, step(Starting, "t2")).Close()
			put(t, j, "wrong", "c", wrong, step(Starting, "t3"), end(Done)).Close()
			put(t, j, "after", "d", day, step(Starting, "t4"), end(Done)).Close()
			put(t, j, "now", "", 0)
			want := []string{"now", "after", "wrong", "crashed before", "before"}
			if got := names(t, j, Query{Limit: 100}); !slices.Equal(got, want) {
				t.Errorf("%q", got)
			}
			j.limits.every = 1000
			put(t, j, "later", "", -200*day)
			if err := j.prune(t.Context(), noon.Add(200*day)); err != nil {
				t.Fatal(err)
			}
			want = []string{"later", "now", "crashed before"}
			if name == "fast" { // the clock has not come there yet
				want = []string{"later", "now", "wrong", "crashed before"}
			}
			if got := names(t, j, Query{Limit: 100}); !slices.Equal(got, want) {
				t.Errorf("200 days later: %q", got)
			}
		})
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
