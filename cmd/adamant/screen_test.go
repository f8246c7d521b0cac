package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/adamant-go/adamant/blueapi"
)

// tty is a terminal: what is written to it, as it looks. It wraps, scrolls, and knows
// cursor-up and erase-below.
type tty struct {
	mu            sync.Mutex
	width, height int
	rows          [][]rune // those scrolled off too
	row, col      int
	writes        int
	blocked       chan struct{} // not nil: it takes nothing until this is closed
}

func newTTY(width, height int) *tty { return &tty{width: width, height: height, rows: [][]rune{nil}} }

func (t *tty) size() (int, int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.width, t.height, nil
}

func (t *tty) Write(b []byte) (int, error) {
	t.mu.Lock()
	blocked := t.blocked
	t.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writes++
	for s := []rune(string(b)); len(s) > 0; s = s[1:] {
		switch r := s[0]; {
		case r == '\n':
			t.down()
			t.col = 0
		case r == '\r':
			t.col = 0
		case r == '\x1b':
			end := strings.IndexAny(string(s), "AJ")
			if s[1] != '[' || end < 0 {
				return 0, errors.New("not known to this terminal: " + strconv.Quote(string(s)))
			}
			if s[end] == 'A' {
				n, err := strconv.Atoi(string(s[2:end]))
				if err != nil {
					return 0, err
				}
				t.row = max(t.row-n, len(t.rows)-t.height, 0)
			} else {
				t.rows[t.row] = t.rows[t.row][:min(t.col, len(t.rows[t.row]))]
				t.rows = t.rows[:t.row+1]
			}
			s = s[end:]
		case r < ' ':
			return 0, errors.New("a control character: " + strconv.Quote(string(r)))
		default:
			if t.col == t.width {
				t.down()
				t.col = 0
			}
			row := t.rows[t.row][:min(t.col, len(t.rows[t.row]))]
			t.rows[t.row] = append(row, r)
			t.col++
		}
	}
	return len(b), nil
}

func (t *tty) down() {
	if t.row++; t.row == len(t.rows) {
		t.rows = append(t.rows, nil)
	}
}

// resize wraps the rows anew, as terminals do. The cursor is in the last row.
func (t *tty) resize(width int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var rows [][]rune
	for _, row := range t.rows {
		for len(row) > width {
			rows, row = append(rows, row[:width:width]), row[width:]
		}
		rows = append(rows, row)
	}
	t.rows, t.row, t.width = rows, len(rows)-1, width
}

func (t *tty) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, row := range t.rows[:len(t.rows)-1] {
		b.WriteString(string(row) + "\n")
	}
	return b.String() + string(t.rows[len(t.rows)-1])
}

// newTestScreen returns a screen on a terminal, and what prints results there.
func newTestScreen(t *tty) (*screen, io.Writer) {
	s := newScreen(&ui{err: t, terminal: true}, "count", true)
	s.begin(t.size)
	return s, visible{above{s, true}}
}

func moving(moves ...blueapi.Move) blueapi.Event {
	return blueapi.Event{Progress: &blueapi.ProgressEvent{Moves: moves}}
}

func data(name, doc string) blueapi.Event {
	return blueapi.Event{Data: &blueapi.DataEvent{Name: name, Doc: []byte(doc)}}
}

func state(s blueapi.WorkerState) blueapi.Event {
	return blueapi.Event{Worker: &blueapi.WorkerEvent{State: s}}
}

func has(t *testing.T, tty *tty, want string) {
	t.Helper()
	time.Sleep(paintEvery + time.Millisecond)
	if diff := cmp.Diff(want, tty.text()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestScreen shows a plan from its beginning to its end.
func TestScreen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tty := newTTY(60, 20)
		s, out := newTestScreen(tty)
		logged := stderr{s.ui}
		at := func(f float64) *float64 { return &f }
		has(t, tty, "count: 0:00\n")

		s.event(state(blueapi.StateRunning))
		s.event(data("start", `{"num_points": 3}`))
		s.event(data("descriptor", `{"uid": "base", "name": "baseline"}`))
		s.event(data("descriptor", `{"uid": "d", "name": "primary"}`))
		s.event(data("event", `{"descriptor": "base", "seq_num": 1}`))
		s.event(data("event", `{"descriptor": "d", "seq_num": 1}`))
		has(t, tty, "count: 1 of 3 points, 0:00\n")

		x := blueapi.Move{ID: "1", Name: "stage-x", Initial: at(0), Current: at(1.25), Target: at(5), Unit: "mm"}
		y := blueapi.Move{ID: "2", Name: "y", Unit: "units"}
		s.event(moving(x, y))
		time.Sleep(2 * time.Second)
		has(t, tty, ""+
			"stage-x  [#####                ]   25 %  1.25 of 5 mm  0:02\n"+
			"y        [                              ]         0:02\n"+
			"count: 1 of 3 points, 0:02, waiting for 2 moves\n")

		fmt.Fprint(out, "a row\x1b[2J\nanother\n")
		s.ui.note("a remark \x1b[2J")
		s.say("another")
		fmt.Fprint(logged, "a log record\n")
		y.Fraction, y.Elapsed = at(0.5), at(61)
		s.event(moving(blueapi.Move{ID: "1", Done: true}, y))
		const above = "a row\\x1b[2J\nanother\nadamant: a remark \\x1b[2J\nadamant: another\na log record\n"
		has(t, tty, above+
			"y  [###############               ]   50 %  1:01\n"+
			"count: 1 of 3 points, 0:02, waiting for a move\n")

		s.event(state(blueapi.StatePaused))
		s.event(moving(blueapi.Move{ID: "2", Done: true}))
		has(t, tty, above+"count: 1 of 3 points, 0:02, paused\n")
		time.Sleep(65 * time.Second)
		has(t, tty, above+"count: 1 of 3 points, 1:07, paused (1:05)\n")

		s.event(state(blueapi.StateRunning))
		tty.resize(50)
		s.event(blueapi.Event{Gap: &blueapi.Gap{}})
		time.Sleep(3 * time.Second)
		has(t, tty, above+"count: 1 of 3 points, 1:10, the broker is away (~\n")
		tty.resize(90)
		has(t, tty, above+"count: 1 of 3 points, 1:10, the broker is away (0:03)\n")

		s.event(blueapi.Event{Gap: &blueapi.Gap{Until: time.Now()}})
		s.event(data("event_page", `{"descriptor": "d", "seq_num": [2, 3]}`))
		has(t, tty, above+"count: 3 of 3 points, 1:10\n")

		s.close()
		s.close()
		if got := tty.text(); got != above {
			t.Errorf("left behind: %q", got)
		}
		fmt.Fprint(out, "after\n")
		s.event(state(blueapi.StateRunning))
		s.hush()
		s.speak()
		s.ui.note("after, too")
		fmt.Fprint(logged, "logged, too\n")
		has(t, tty, above+"after\nadamant: after, too\nlogged, too\n")
	})
}

// TestScreenHushed: while a question is asked, nothing but messages comes between.
func TestScreenHushed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tty := newTTY(60, 20)
		s, out := newTestScreen(tty)
		fmt.Fprint(out, "before\n")
		s.hush()
		fmt.Fprint(out, "held\n")
		s.ui.message("a question")
		fmt.Fprint(s.ui.err, "Abort? [y/N] ")
		has(t, tty, "before\na question\nAbort? [y/N] ")
		fmt.Fprint(tty, "y\n")
		s.speak()
		has(t, tty, "before\na question\nAbort? [y/N] y\nheld\ncount: 0:00\n")
		s.hush()
		s.close()
		has(t, tty, "before\na question\nAbort? [y/N] y\nheld\n")
	})
}

// TestScreenResized: rows that a narrower terminal has wrapped are taken off all the same.
func TestScreenResized(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tty := newTTY(60, 20)
		s, out := newTestScreen(tty)
		fmt.Fprint(out, "one\n")
		for i := range 5 {
			s.event(moving(blueapi.Move{ID: strconv.Itoa(i), Name: "a motor with a long name"}))
		}
		time.Sleep(time.Second + paintEvery/2) // not while it is painted: nobody can tell the two apart then
		for _, width := range []int{40, 20, 80, 30, 60} {
			tty.resize(width)
			time.Sleep(time.Second)
			if got := strings.Count(strings.ReplaceAll(tty.text(), "\n", ""), "one"); got != 1 {
				t.Errorf("at width %d:\n%s", width, tty.text())
			}
			if strings.Count(tty.text(), "\n") > 8 {
				t.Errorf("at width %d rows are left behind:\n%s", width, tty.text())
			}
		}
		s.close()
	})
}

// TestMoveBeyondNumbers: positions that cannot be calculated with have no fraction.
func TestMoveBeyondNumbers(t *testing.T) {
	t.Parallel()
	at := func(f float64) *float64 { return &f }
	m := moveBar{Move: blueapi.Move{Name: "x", Initial: at(-1.7e308), Current: at(1e308), Target: at(1.7e308)}}
	const want = "x  [                              ]         1e+308 of 1.7e+308  0:00"
	if got := m.row(1, 80, m.seen); got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

// TestScreenOfManyMoves shows no more than there is room for.
func TestScreenOfManyMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for height := 2; height < 40; height++ {
			tty := newTTY(70, height)
			s, _ := newTestScreen(tty)
			for i := range 100 {
				s.event(moving(blueapi.Move{ID: strconv.Itoa(i), Name: "日本\x1b\n語" + strings.Repeat("é", i)}))
			}
			time.Sleep(5 * time.Second)
			if rows := strings.Count(tty.text(), "\n"); height > 2 && rows >= height || !strings.Contains(tty.text(), "waiting for 100 moves") {
				t.Errorf("height %d:\n%s", height, tty.text())
			}
			s.event(state(blueapi.StateIdle))
			has(t, tty, "count: 0:05\n")
			s.close()
		}
	})
}

// TestScreenFlooded: 10,000 events and lines a second cost ten writes, and a terminal
// that takes nothing does not hold up events and messages.
func TestScreenFlooded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tty := newTTY(60, 20)
		s, out := newTestScreen(tty)
		s.event(data("start", `{}`))
		s.event(data("descriptor", `{"uid": "d", "name": "primary"}`))
		flood := func(n int) {
			for i := range n {
				s.event(data("event", `{"descriptor": "d", "seq_num": 1}`))
				if i%10 == 9 {
					time.Sleep(time.Millisecond)
				}
			}
		}
		for range 10 {
			fmt.Fprint(out, strings.Repeat("a line\n", 1000))
			flood(1000)
		}
		if has(t, tty, strings.Repeat("a line\n", 10000)+"count: 10000 points, 0:01\n"); tty.writes > 12 {
			t.Errorf("%d writes", tty.writes)
		}

		tty.mu.Lock()
		tty.blocked = make(chan struct{})
		tty.mu.Unlock()
		begin, printed := time.Now(), make(chan struct{})
		go func() {
			fmt.Fprint(out, strings.Repeat("x", maxLines)+"\n")
			fmt.Fprint(out, "held up\n")
			fmt.Fprint(out, strings.Repeat("y", maxLines)+"\n")
			fmt.Fprint(out, "held up too\n")
			close(printed)
		}()
		flood(10000)
		s.say("not held up")
		if d := time.Since(begin); d != time.Second {
			t.Errorf("it took %v", d)
		}
		synctest.Wait()
		select {
		case <-printed:
			t.Error("what is printed has no bounds")
		default:
		}
		close(tty.blocked)
		<-printed
		time.Sleep(time.Second)
		if got := tty.text(); !strings.HasSuffix(got, "held up too\ncount: 20000 points, 0:03\n") || !strings.Contains(got, "adamant: not held up\n") {
			t.Errorf("%.200q", got[len(got)-200:])
		}
		s.close()
	})
}

// TestScreenOfAnotherKind has no block without a terminal that is fit for one.
func TestScreenOfAnotherKind(t *testing.T) {
	for _, tt := range []struct {
		name, kind string
		ui         *ui
		want       string
	}{
		{"a pipe", "xterm", &ui{}, "adamant: a remark\n"},
		{"a dumb terminal", "dumb", &ui{terminal: true}, "adamant: a remark\n"},
		{"quiet", "xterm", &ui{terminal: true, quiet: true}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TERM", tt.kind)
			file, err := os.CreateTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			var stdout bytes.Buffer
			tt.ui.out, tt.ui.err = &stdout, file
			s := newScreen(tt.ui, "count", true)
			s.event(moving(blueapi.Move{ID: "1"}))
			s.hush()
			s.speak()
			s.say("a remark")
			fmt.Fprint(s.stdout(), "a row \x1b\n")
			s.close()
			stderr, err := os.ReadFile(file.Name())
			if string(stderr) != tt.want || err != nil {
				t.Errorf("stderr %q, want %q (%v)", stderr, tt.want, err)
			}
			if stdout.String() != "a row \x1b\n" { // it is no terminal, and the bytes are the result
				t.Errorf("stdout %q", &stdout)
			}
		})
	}
}

// BenchmarkScreen notes an event with twelve moves.
func BenchmarkScreen(b *testing.B) {
	s, _ := newTestScreen(newTTY(80, 24))
	defer s.close()
	var moves []blueapi.Move
	for i := range 12 {
		moves = append(moves, blueapi.Move{ID: strconv.Itoa(i), Name: "motor"})
	}
	e := moving(moves...)
	for b.Loop() {
		s.event(e)
	}
}
