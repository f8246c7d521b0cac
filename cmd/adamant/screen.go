package main

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/adamant-go/adamant/blueapi"
)

// screen owns the terminal while a plan is followed. At the lower end it keeps a block
// of rows up to date: a bar for each move, and a line that tells how far the plan is and
// what it waits for. What else is printed meanwhile, by the table or by messages, goes
// above the block. Where there is no terminal to keep a block on, a screen only passes
// on what is printed.
//
// What comes is gathered, and painted ten times a second at most in one write each, so a
// flood of events costs no more than remembering them. A terminal that takes nothing
// holds up who prints results, in the end, but neither messages nor event.
//
// Its methods may be called from any goroutine.
type screen struct {
	ui         *ui
	err        io.Writer // the ui's own
	size       func() (width, height int, err error)
	stop, done chan struct{} // nil: there is no block
	closing    sync.Once

	mu     sync.Mutex
	room   sync.Cond // lines have been printed
	lines  []byte    // to be printed above the block
	plan   planProgress
	hushed bool
	closed bool

	painting sync.Mutex // held while the terminal is written to; never taken while mu is held
	drawn    []string   // the rows that are on the terminal
	width    int        // that they were drawn for
}

const (
	paintEvery = 100 * time.Millisecond
	// maxLines is how many bytes may wait to be printed before who prints has to.
	maxLines = 1 << 18
)

// newScreen returns a screen for a plan, with a block if bars are wanted and the ui is
// at a terminal that can move its cursor. Then it takes over what the ui prints to
// stderr, until it is closed.
func newScreen(u *ui, plan string, bars bool) *screen {
	s := &screen{ui: u, err: u.err, plan: planProgress{name: plan, began: time.Now()}}
	s.room.L = &s.mu
	kind := os.Getenv("TERM")
	if f, ok := u.err.(*os.File); ok && bars && u.terminal && !u.quiet && kind != "" && kind != "dumb" {
		s.begin(func() (int, int, error) { return term.GetSize(int(f.Fd())) })
	}
	return s
}

// begin starts the block.
func (s *screen) begin(size func() (width, height int, err error)) {
	s.size, s.stop, s.done = size, make(chan struct{}), make(chan struct{})
	s.divert(above{s, false})
	go func() {
		defer close(s.done)
		tick := time.NewTicker(paintEvery)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				s.painting.Lock()
				s.paint(true)
				s.painting.Unlock()
			}
		}
	}()
}

// divert sends the ui's messages elsewhere.
func (s *screen) divert(to io.Writer) {
	s.ui.messages.Lock()
	s.ui.err = to
	s.ui.messages.Unlock()
}

// stderr writes to where the ui's messages go at that time.
type stderr struct{ ui *ui }

func (w stderr) Write(b []byte) (int, error) {
	w.ui.messages.Lock()
	defer w.ui.messages.Unlock()
	return w.ui.err.Write(b)
}

// event notes what an event tells about the plan.
func (s *screen) event(e blueapi.Event) {
	if s.stop == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.event(e, time.Now())
}

// say prints a remark.
func (s *screen) say(line string) { s.ui.note("%s", line) }

// stdout is where to print results until the screen is closed.
func (s *screen) stdout() io.Writer {
	out := onTerminal(s.ui.out)
	if _, terminal := out.(visible); terminal && s.stop != nil {
		return visible{above{s, true}}
	}
	return out
}

// onTerminal returns what to print through so that control characters do not get to a
// terminal.
func onTerminal(out io.Writer) io.Writer {
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return visible{f}
	}
	return out
}

// visible writes text without control characters.
type visible struct{ to io.Writer }

func (v visible) Write(b []byte) (int, error) {
	if _, err := io.WriteString(v.to, printable(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// above prints whole lines above the block, soon.
type above struct {
	*screen
	waits bool // for room
}

func (a above) Write(b []byte) (int, error) {
	s := a.screen
	s.mu.Lock()
	for a.waits && len(s.lines) >= maxLines && !s.closed {
		s.room.Wait()
	}
	if !s.closed {
		s.lines = append(s.lines, b...)
		s.mu.Unlock()
		return len(b), nil
	}
	s.mu.Unlock()
	s.painting.Lock()
	defer s.painting.Unlock()
	return s.err.Write(b)
}

// hush takes the block off the terminal and holds everything back but the ui's messages,
// for a question.
func (s *screen) hush() {
	if s.stop == nil {
		return
	}
	s.painting.Lock()
	s.paint(false)
	s.mu.Lock()
	s.hushed = !s.closed
	s.mu.Unlock()
	s.painting.Unlock()
	s.divert(s.err)
}

// speak ends a hush.
func (s *screen) speak() {
	s.mu.Lock()
	over := s.hushed
	s.hushed = false
	s.mu.Unlock()
	if over {
		s.divert(above{s, false})
	}
}

// close prints what still waits, takes the block off, and gives the terminal back.
func (s *screen) close() {
	if s.stop == nil {
		return
	}
	s.closing.Do(func() {
		close(s.stop)
		<-s.done
		s.painting.Lock()
		s.mu.Lock()
		s.hushed, s.closed = false, true
		s.mu.Unlock()
		s.paint(false)
		s.painting.Unlock()
		s.divert(s.err)
	})
}

// paint prints what waits, and brings the block up to date or takes it off. The caller
// holds painting.
func (s *screen) paint(block bool) {
	width, height, err := s.size()
	if err != nil {
		width, height = 80, 24
	}
	width, height = max(width, 2), max(height, 2)
	s.mu.Lock()
	if s.hushed {
		s.mu.Unlock()
		return
	}
	lines := s.lines
	s.lines = nil
	var rows []string
	if block {
		rows = s.plan.rows(width-1, height-1, time.Now()) // many terminals wrap after the last column
	}
	s.mu.Unlock()
	s.room.Broadcast()

	if len(lines) == 0 && width == s.width && strings.Join(rows, "\n") == strings.Join(s.drawn, "\n") {
		return
	}
	var b bytes.Buffer
	erase(&b, s.drawn, width, height)
	b.Write(lines)
	for _, row := range rows {
		b.WriteString(row)
		b.WriteByte('\n')
	}
	s.drawn, s.width = rows, width
	_, _ = s.err.Write(b.Bytes()) // whom a terminal cannot show it to, it cannot be told otherwise
}

// erase moves the cursor from below rows to where they begin, and clears the terminal
// from there. A terminal that has become narrower has wrapped them.
func erase(b *bytes.Buffer, rows []string, width, height int) {
	n := 0
	for _, row := range rows {
		n += max(1, (displayWidth(row)+width-1)/width)
	}
	if n = min(n, height-1); n > 0 {
		b.WriteString("\x1b[" + strconv.Itoa(n) + "A\r\x1b[J")
	}
}
