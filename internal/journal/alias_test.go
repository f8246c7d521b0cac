package journal

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestAliases(t *testing.T) {
	t.Parallel()
	const here, there = "http://a", "http://b"
	dir := newDir(t)
	j := openIn(t, dir)
	keep := func(server string, a Alias) {
		t.Helper()
		if err := j.KeepAlias(t.Context(), server, a); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(server string, want ...Alias) {
		t.Helper()
		again, err := OpenExisting(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = again.Close() }()
		got, err := again.Aliases(t.Context(), server)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, not %v", server, got, err, want)
		}
	}
	expect(here)
	keep(here, Alias{"t1", "t2", "e1"})
	keep(here, Alias{"t3", "t4", "e1"})
	keep(there, Alias{"t1", "t9", "e1"})
	keep(here, Alias{"t1", "t5", "e1"}) // it was replaced again
	expect(here, Alias{"t1", "t5", "e1"}, Alias{"t3", "t4", "e1"})
	expect(there, Alias{"t1", "t9", "e1"})
	keep(here, Alias{"t6", "t7", "e2"}) // the environment is another
	expect(here, Alias{"t6", "t7", "e2"})
	expect(there, Alias{"t1", "t9", "e1"})
	for _, a := range []Alias{{"", "t", "e"}, {"t", "", "e"}, {"t", "t", ""}, {string(make([]byte, 2000)), "t", "e"}} {
		if err := j.KeepAlias(t.Context(), here, a); err == nil {
			t.Errorf("%.20q was kept", a)
		}
	}
}

// TestMigration opens files of earlier versions: what they have stays, and several may be
// first.
func TestMigration(t *testing.T) {
	t.Parallel()
	for version, lacks := range map[int]string{
		1: "DROP TABLE aliases; DROP TABLE reloads;",
		2: "DROP TABLE reloads;",
	} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			migrate(t, version, lacks)
		})
	}
}

func migrate(t *testing.T, version int, lacks string) {
	dir := newDir(t)
	j := openIn(t, dir)
	begin(t, j, request("r1")).Close()
	db, err := sql.Open("sqlite", filepath.Join(dir, "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), fmt.Sprintf("%s PRAGMA user_version = %d", lacks, version)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			j, err := OpenExisting(t.Context(), dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = j.Close() }()
			if err := j.KeepAlias(t.Context(), "http://a", Alias{"t1", "t2", "e1"}); err != nil {
				t.Error(err)
			}
			if err := j.KeepReload(t.Context(), "http://a", Reload{"e1", time.Unix(1, 0)}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	runs, err := j.Runs(t.Context(), Query{ID: "r1"}) // of a process of the time before
	if err != nil || len(runs) != 1 {
		t.Errorf("%v, %v", runs, err)
	}
}

// TestUnsettled finds the runs that may have started their plan, for all that is known.
func TestUnsettled(t *testing.T) {
	t.Parallel()
	j := openIn(t, newDir(t))
	for id, steps := range map[string][]Entry{
		"wanted":           nil,
		"starting":         {step(Starting, "t")},
		"again":            {step(Starting, "t"), step(NotSent, "t"), step(Starting, "t")},
		"unknown":          {step(Starting, "t"), end(Unknown)},
		"unknown, twice":   {step(Starting, "t"), end(Unknown), end(Unknown)},
		"not sent":         {step(Starting, "t"), step(NotSent, "t")},
		"started":          {step(Starting, "t"), step(Started, "t")},
		"lost":             {step(Starting, "t"), step(Started, "t"), end(Unknown)},
		"withdrawn":        {step(Starting, "t"), step(Withdrawn, "t")},
		"refused":          {step(Starting, "t"), end(NotStarted)},
		"unknown, settled": {step(Starting, "t"), end(Unknown), step(Withdrawn, "t")},
	} {
		o := begin(t, j, request(id))
		for i := range steps {
			if steps[i].Task != "" {
				steps[i].Task += " of " + id
			}
		}
		record(t, o, steps...)
		o.Close()
	}
	got := names(t, j, Query{Unsettled: true})
	slices.Sort(got)
	if want := []string{"again", "starting", "unknown", "unknown, twice"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}
