package journal

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// childVar names what this test binary does instead of running tests, when a test
// needs another process.
const childVar = "ADAMANT_JOURNAL_CHILD"

func TestMain(m *testing.M) {
	name := os.Getenv(childVar)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := children()[name](os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// children are what another process can be asked to do. They talk to the test in
// lines on standard output.
func children() map[string]func(args []string) error {
	all := diskChildren()
	maps.Copy(all, map[string]func([]string) error{
		"own":    childOwn,
		"append": childAppend,
		"steps":  childSteps,
		"write":  childWrite,
		"power":  childPower,
	})
	return all
}

// child makes another process that does what is named. It has no terminal and
// dies with the test.
func child(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), childVar+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// output runs a child to its end.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v; it said %q", err, out)
	}
	return string(out)
}

// lines starts a child and returns what reads its next line, which is "" at the
// end. The child stays until it is killed, or its standard input is closed.
func lines(t *testing.T, cmd *exec.Cmd) (next func() string) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s := bufio.NewScanner(out)
	return func() string {
		if !s.Scan() {
			return ""
		}
		return s.Text()
	}
}

// say prints a line for the test.
func say(words ...any) { _, _ = fmt.Fprintln(os.Stdout, words...) }

// untilEnd waits until the test closes standard input, or dies.
func untilEnd() { _, _ = bufio.NewReader(os.Stdin).ReadString(0) }

// newDir is a directory in which a journal can be made.
func newDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "adamant")
}

func openIn(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// noon is when things happen in tests that do not care.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func request(id string) Request {
	return Request{ID: id, At: noon, Server: "http://localhost:8000", Plan: "count", Session: "cm1-1"}
}

func begin(t testing.TB, j *Journal, r Request) *Owner {
	t.Helper()
	o, err := j.Begin(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

func record(t testing.TB, o *Owner, entries ...Entry) {
	t.Helper()
	for _, e := range entries {
		if err := o.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func step(s Step, task string) Entry {
	return Entry{Step: s, At: noon, Task: task, Environment: "env"}
}

func end(w Word) Entry { return Entry{Step: Ended, At: noon, End: &End{Word: w}} }

// find returns the one run that is selected.
func find(t testing.TB, j *Journal, q Query) Run {
	t.Helper()
	runs, err := j.Runs(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if len(runs) != 1 {
		t.Fatalf("%+v selects %d runs, want 1", q, len(runs))
	}
	return runs[0]
}

// names returns the ids of runs.
func names(t testing.TB, j *Journal, q Query) []string {
	t.Helper()
	runs, err := j.Runs(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range runs {
		ids = append(ids, r.ID)
	}
	return ids
}
