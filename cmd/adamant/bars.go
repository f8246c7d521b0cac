package main

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/adamant-go/adamant/blueapi"
)

// planProgress is what is known of a plan that is followed: how far it is, and what
// moves.
type planProgress struct {
	name  string
	began time.Time

	points   int    // events of the primary stream of the run of the moment
	expected int    // as its start document says; 0 if it does not
	primary  string // the descriptor of that stream
	moves    []*moveBar

	paused cause
	broker cause // that the broker is away
}

// cause is why nothing may be seen to happen. Its zero value is none.
type cause struct {
	why   string
	since time.Time
}

// moveBar is a move that is under way.
type moveBar struct {
	blueapi.Move
	seen time.Time
}

func (p *planProgress) event(e blueapi.Event, now time.Time) {
	switch {
	case e.Gap != nil:
		p.broker = cause{}
		if e.Gap.Until.IsZero() {
			p.broker = cause{"the broker is away", now}
		}
	case e.Worker != nil:
		switch paused := e.Worker.State == blueapi.StatePaused; {
		case !paused:
			p.paused = cause{}
		case p.paused.why == "":
			p.paused = cause{"paused", now}
		}
		if e.Worker.State == blueapi.StateIdle {
			p.moves = nil // some are not said to be done
		}
	case e.Progress != nil:
		for _, m := range e.Progress.Moves {
			p.move(m, now)
		}
	case e.Data != nil:
		p.document(*e.Data)
	}
}

func (p *planProgress) move(m blueapi.Move, now time.Time) {
	i := slices.IndexFunc(p.moves, func(old *moveBar) bool { return old.ID == m.ID })
	switch {
	case m.Done && i >= 0:
		p.moves = slices.Delete(p.moves, i, i+1)
	case m.Done:
	case i >= 0:
		p.moves[i].Move = m
	default:
		p.moves = append(p.moves, &moveBar{m, now})
	}
}

// document counts points. What cannot be read is not counted.
func (p *planProgress) document(d blueapi.DataEvent) {
	switch d.Name {
	case "start":
		var doc struct {
			Points json.RawMessage `json:"num_points"`
		}
		p.points, p.expected, p.primary = 0, 0, ""
		if json.Unmarshal(d.Doc, &doc) == nil {
			if n, err := strconv.Atoi(string(doc.Points)); err == nil {
				p.expected = max(n, 0)
			}
		}
	case "descriptor":
		var doc struct{ UID, Name string }
		if json.Unmarshal(d.Doc, &doc) == nil && doc.Name == "primary" {
			p.primary = doc.UID
		}
	case "event", "event_page":
		var doc struct {
			Descriptor string
			SeqNum     json.RawMessage `json:"seq_num"`
		}
		if json.Unmarshal(d.Doc, &doc) != nil || doc.Descriptor != p.primary || p.primary == "" {
			return
		}
		var page []json.RawMessage
		if json.Unmarshal(doc.SeqNum, &page) == nil {
			p.points += len(page)
		} else {
			p.points++
		}
	}
}

// rows are the moves and the plan's own line, no wider and no more than there is room
// for.
func (p *planProgress) rows(width, height int, now time.Time) []string {
	shown := p.moves
	room := max(min(height/2, 12), 1) - 1
	if len(shown) > room {
		shown = shown[:room]
	}
	names := 0
	for _, m := range shown {
		names = max(names, displayWidth(m.label()))
	}
	rows := make([]string, 0, len(shown)+1)
	for _, m := range shown {
		rows = append(rows, m.row(min(names, maxName), width, now))
	}
	return append(rows, fit(p.line(now), width))
}

// line tells how far the plan is, since when it runs, and why nothing may happen.
func (p *planProgress) line(now time.Time) string {
	parts := []string{stopwatch(now.Sub(p.began))}
	switch {
	case p.expected > 0:
		parts = []string{fmt.Sprintf("%d of %d points", p.points, p.expected), parts[0]}
	case p.points > 0:
		parts = []string{fmt.Sprintf("%d points", p.points), parts[0]}
	}
	for _, c := range []cause{p.paused, p.broker} {
		if c.why == "" {
			continue
		}
		why := asRow(c.why)
		if d := now.Sub(c.since); d >= 2*time.Second {
			why += " (" + stopwatch(d) + ")"
		}
		parts = append(parts, why)
	}
	switch n := len(p.moves); {
	case n == 1:
		parts = append(parts, "waiting for a move")
	case n > 1:
		parts = append(parts, fmt.Sprintf("waiting for %d moves", n))
	}
	return asRow(p.name) + ": " + strings.Join(parts, ", ")
}

const (
	maxName = 24 // columns for the name of a move
	maxBar  = 30
	minBar  = 6
)

func (m *moveBar) label() string {
	if m.Name == "" || strings.EqualFold(m.Name, "unknown") { // 1.21 learns some names late
		return "a move"
	}
	return asRow(m.Name)
}

// row is the name, a bar as far as there is room, and the position.
func (m *moveBar) row(name, width int, now time.Time) string {
	elapsed := now.Sub(m.seen)
	if m.Elapsed != nil && *m.Elapsed >= 0 && *m.Elapsed < 1e9 {
		elapsed = time.Duration(*m.Elapsed * float64(time.Second))
	}
	tail := "     "
	fraction, known := m.fraction()
	if known {
		tail = fmt.Sprintf("%3.0f %%", 100*fraction)
	}
	if at := m.position(); at != "" {
		tail += "  " + at
	}
	tail += "  " + stopwatch(elapsed)
	left := fit(m.label(), name)
	left += strings.Repeat(" ", name-displayWidth(left))
	bar := min(width-displayWidth(left)-displayWidth(tail)-6, maxBar) // [] and blanks
	if bar < minBar {
		return fit(left+" "+tail, width)
	}
	full := int(math.Round(fraction * float64(bar)))
	return left + "  [" + strings.Repeat("#", full) + strings.Repeat(" ", bar-full) + "]  " + tail
}

// fraction is how far the move is. 1.21 does not tell until the end, but where it began,
// is, and goes to.
func (m *moveBar) fraction() (f float64, known bool) {
	switch {
	case m.Fraction != nil:
		f = *m.Fraction
	case m.Current == nil || m.Initial == nil || m.Target == nil || *m.Target == *m.Initial:
		return 0, false
	default:
		f = (*m.Current - *m.Initial) / (*m.Target - *m.Initial)
	}
	if math.IsNaN(f) { // of positions too far apart to be told from infinity
		return 0, false
	}
	return min(max(f, 0), 1), true
}

// position is such as "1.25 of 5 mm".
func (m *moveBar) position() string {
	if m.Current == nil {
		return ""
	}
	s := m.number(*m.Current)
	if m.Target != nil {
		s += " of " + m.number(*m.Target)
	}
	if m.Unit != "" && m.Unit != "units" { // what 1.21 says of one that has none
		s += " " + fit(asRow(m.Unit), 10)
	}
	return s
}

func (m *moveBar) number(f float64) string {
	if m.Precision != nil && *m.Precision >= 0 && *m.Precision <= 9 && math.Abs(f) < 1e9 {
		return strconv.FormatFloat(f, 'f', *m.Precision, 64)
	}
	return strconv.FormatFloat(f, 'g', 5, 64)
}

// stopwatch is such as 0:07 or 1:02:03.
func stopwatch(d time.Duration) string {
	s := int(max(d, 0) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// asRow shows a text of the server in one row.
func asRow(s string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(printable(s))
}

// fit cuts a text to the width of a terminal.
func fit(s string, width int) string {
	if displayWidth(s) <= width {
		return s
	}
	n := 0
	for i, r := range s {
		if n += runeWidth(r); n > width-1 {
			return s[:i] + "~" // ASCII, for terminals without an ellipsis
		}
	}
	return s
}

// displayWidth is how many columns a text takes on a terminal.
func displayWidth(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case isWide(r):
		return 2
	}
	return 1
}

// isWide tells the characters that take two columns (Unicode's East Asian Width W and
// F, by their blocks).
func isWide(r rune) bool {
	switch {
	case r < 0x1100:
		return false
	case r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf && r != 0x303f, r >= 0xac00 && r <= 0xd7a3, // Hangul, kana, ideographs
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, // compatibility forms
		r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, // full width
		r >= 0x1f300 && r <= 0x1f64f, r >= 0x1f900 && r <= 0x1f9ff, // emoji
		r >= 0x20000 && r <= 0x3fffd:
		return true
	}
	return false
}
