package journal

import (
	"strconv"
	"testing"
)

// BenchmarkOpen is what a command pays that uses the journal.
func BenchmarkOpen(b *testing.B) {
	dir := newDir(b)
	begin(b, openIn(b, dir), request("r"))
	for b.Loop() {
		j, err := Open(b.Context(), dir)
		if err != nil {
			b.Fatal(err)
		}
		j.Close()
	}
}

// BenchmarkRecord is what a step costs, most of it the disk's.
func BenchmarkRecord(b *testing.B) {
	o := begin(b, openIn(b, newDir(b)), request("r"))
	for b.Loop() {
		record(b, o, step(Starting, "t"))
	}
}

// BenchmarkRuns reads the latest runs of a full journal.
func BenchmarkRuns(b *testing.B) {
	j := openIn(b, newDir(b))
	for i := range 2000 {
		o := begin(b, j, request(strconv.Itoa(i)))
		task := "t" + strconv.Itoa(i)
		record(b, o, step(Starting, task), step(Started, task), end(Done))
		o.Close()
	}
	for b.Loop() {
		if _, err := j.Runs(b.Context(), Query{}); err != nil {
			b.Fatal(err)
		}
	}
}
