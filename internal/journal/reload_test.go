package journal

import (
	"testing"
	"time"
)

func TestReloads(t *testing.T) {
	t.Parallel()
	const here, there = "http://a", "http://b"
	dir := newDir(t)
	j := openIn(t, dir)
	expect := func(server string, want Reload) {
		t.Helper()
		again, err := OpenExisting(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = again.Close() }()
		got, err := again.Reload(t.Context(), server)
		if err != nil || got.Environment != want.Environment || !got.At.Equal(want.At) {
			t.Errorf("%s: %v, %v, not %v", server, got, err, want)
		}
	}
	expect(here, Reload{})
	at := time.Now()
	for _, r := range []Reload{{"e1", at}, {"e2", at.Add(time.Minute)}} {
		if err := j.KeepReload(t.Context(), here, r); err != nil {
			t.Fatal(err)
		}
		expect(here, r)
	}
	expect(there, Reload{})
	if err := j.KeepReload(t.Context(), here, Reload{At: at}); err == nil {
		t.Error("one of no environment was kept")
	}
}
