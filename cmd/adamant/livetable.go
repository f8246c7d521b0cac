package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// liveTable prints the events of one stream as bluesky's LiveTable does (1.15,
// bluesky/callbacks/core.py): a column for each field that is a number or a text, as
// wide as its name needs, and the head again every 50 rows.
type liveTable struct {
	loc    *time.Location
	start  pyDict
	fields []string

	descriptors map[string]bool
	columns     []column
	ready       bool // the head was printed
	rows        int
}

const (
	columnWidth     = 12 // at least
	columnPrecision = 3  // unless the descriptor has one
	headEvery       = 50
	failedRow       = " failed to format row "
	// maxPrecision is ours: bluesky would print as many digits as it is told to.
	maxPrecision = 1000
)

// column is one field of a table. Its width has a blank on each side.
type column struct {
	name  string
	width int
	prec  int
	kind  columnKind
	clock bool // it is the time of the event, and no field
}

type columnKind int

const (
	textColumn columnKind = iota
	integerColumn
	numberColumn
)

// newLiveTable returns a table of a run's primary stream.
func newLiveTable(loc *time.Location, start pyDict, fields []string) *liveTable {
	return &liveTable{
		loc: loc, start: start, fields: fields, descriptors: map[string]bool{},
		columns: []column{
			{name: "seq_num", width: 11, kind: integerColumn},
			{name: "time", width: 12, prec: 10, clock: true},
		},
	}
}

// descriptor prints the head, if the stream is the table's. The error says why the
// table has none.
func (t *liveTable) descriptor(b *strings.Builder, doc pyDict) error {
	if name, err := need[string](doc, "name"); err != nil || name != "primary" {
		return err
	}
	uid, err := need[string](doc, "uid")
	if err != nil {
		return err
	}
	t.descriptors[uid] = true
	keys, err := need[pyDict](doc, "data_keys")
	if err != nil {
		return err
	}
	for _, field := range t.fields {
		key, ok := keys.lookup(field)
		if !ok {
			continue
		}
		about, _ := key.(pyDict)
		dtype, err := need[string](about, "dtype")
		if err != nil {
			return err
		}
		c := column{name: field, width: max(columnWidth, utf8.RuneCountInString(field)+2)}
		switch dtype {
		case "number":
			c.kind, c.prec = numberColumn, precisionOf(about)
		case "integer":
			c.kind = integerColumn
		case "string":
			c.prec = c.width - 3
		case "boolean":
			c.prec = len("False")
		default: // bluesky warns that it does not know how to show it
			continue
		}
		if i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == field && !c.clock }); i >= 0 {
			t.columns[i] = c
		} else {
			t.columns = append(t.columns, c)
		}
	}
	t.ready = true
	t.head(b)
	return nil
}

// precisionOf is how many digits a number has after its point: int(precision) of the
// descriptor, if Python can make an integer of it.
func precisionOf(about pyDict) int {
	switch v := about.get("precision").(type) {
	case bool:
		if v {
			return 1
		}
		return 0
	case pyInt:
		return clampInt(string(v))
	case float64:
		return int(max(min(math.Trunc(v), math.MaxInt32), -1))
	case string:
		v = strings.TrimFunc(v, isPySpace)
		if digits := strings.TrimLeft(v, "+-"); len(v)-len(digits) <= 1 && digits != "" && strings.Trim(digits, "0123456789") == "" {
			return clampInt(v)
		}
	}
	return columnPrecision
}

// clampInt reads an integer. What is too large for a precision stays so.
func clampInt(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return math.MaxInt32
	}
	return n
}

func (t *liveTable) head(b *strings.Builder) {
	t.line(b)
	for _, c := range t.columns {
		b.WriteByte('|')
		padLeft(b, c.name, c.width-1)
		b.WriteByte(' ')
	}
	b.WriteString("|\n")
	t.line(b)
}

func (t *liveTable) line(b *strings.Builder) {
	for _, c := range t.columns {
		b.WriteByte('+')
		for range c.width {
			b.WriteByte('-')
		}
	}
	b.WriteString("+\n")
}

// event prints a row.
func (t *liveTable) event(b *strings.Builder, doc pyDict) {
	if uid, ok := doc.get("descriptor").(string); !ok || !t.descriptors[uid] {
		return
	}
	if !t.ready {
		b.WriteString(failedRow + "\n")
		return
	}
	if t.rows++; t.rows%headEvery == 0 {
		t.head(b)
	}
	row, err := t.row(doc)
	if err != nil {
		row = failedRow
	}
	b.WriteString(row)
	b.WriteByte('\n')
}

func (t *liveTable) row(doc pyDict) (string, error) {
	at, err := moment(doc, t.loc)
	if err != nil {
		return "", err
	}
	data, err := need[pyDict](doc, "data")
	if err != nil {
		return "", err
	}
	seqNum, ok := doc.lookup("seq_num")
	if !ok {
		return "", errNoMember("seq_num")
	}
	filled := pyDict{}
	if v, ok := doc.lookup("filled"); ok {
		if filled, ok = v.(pyDict); !ok {
			return "", errValue
		}
	}
	var b strings.Builder
	for _, c := range t.columns {
		b.WriteByte('|')
		value, ok := data.lookup(c.name)
		switch {
		case c.clock:
			value, ok = timeOfDay(at), true
		case c.name == "seq_num":
			value, ok = seqNum, true
		}
		if _, truth := value.(bool); ok && !truth && !c.clock {
			if there, known := filled.lookup(c.name); known && !pyTruth(there) {
				ok = false
			}
		}
		if !ok {
			padLeft(&b, "", c.width)
		} else if err := c.cell(&b, value); err != nil {
			return "", err
		}
	}
	b.WriteByte('|')
	return b.String(), nil
}

// cell writes a value as Python's format does, or says that it cannot.
func (c column) cell(b *strings.Builder, value any) error {
	if v, ok := value.(bool); ok {
		value = pyRepr(v)
	}
	var text string
	switch v := value.(type) {
	case string:
		if c.kind != textColumn {
			return errValue
		}
		text = firstRunes(v, c.prec)
	case pyInt:
		switch c.kind {
		case integerColumn:
			text = string(v)
		case numberColumn:
			f, _ := strconv.ParseFloat(string(v), 64)
			return column{width: c.width, prec: c.prec, kind: numberColumn}.cell(b, f)
		default:
			return errValue
		}
	case float64:
		if c.kind != numberColumn || c.prec < 0 || c.prec > maxPrecision {
			return errValue
		}
		text = strconv.FormatFloat(v, 'f', c.prec, 64)
	default:
		return errValue
	}
	b.WriteByte(' ')
	padLeft(b, text, c.width-2)
	b.WriteByte(' ')
	return nil
}

// stop prints the end of the table, if the run that ended is the table's.
func (t *liveTable) stop(b *strings.Builder, doc pyDict) error {
	run, err := need[string](doc, "run_start")
	if err != nil {
		return err
	}
	uid, err := need[string](t.start, "uid")
	if err != nil || run != uid {
		return err
	}
	if t.ready {
		t.line(b)
	}
	var names [3]string
	for i, name := range []string{"plan_type", "plan_name", "scan_id"} {
		v, ok := t.start.lookup(name)
		if !ok {
			return errNoMember(name)
		}
		names[i] = pyStr(v)
	}
	fmt.Fprintf(b, "%s %s ['%s'] (scan num: %s)\n", names[0], names[1], firstRunes(uid, 8), names[2])
	return nil
}

// moment is the time of a document, as datetime.fromtimestamp reads it: rounded to
// microseconds, halves to even.
func moment(doc pyDict, loc *time.Location) (time.Time, error) {
	v, ok := doc.lookup("time")
	if !ok {
		return time.Time{}, errNoMember("time")
	}
	var seconds float64
	switch v := v.(type) {
	case pyInt:
		seconds, _ = strconv.ParseFloat(string(v), 64)
	case float64:
		seconds = v
	default:
		return time.Time{}, errValue
	}
	if math.Abs(seconds) > 1e12 {
		return time.Time{}, errValue
	}
	whole, fraction := math.Modf(seconds)
	at := time.Unix(int64(whole), int64(math.RoundToEven(fraction*1e6))*1000).In(loc)
	if at.Year() < 1000 || at.Year() > 9999 { // Python has no later ones, and prints earlier ones in other ways
		return time.Time{}, errValue
	}
	return at, nil
}

// timeOfDay is str(datetime.time()).
func timeOfDay(at time.Time) string {
	if at.Nanosecond() == 0 {
		return at.Format("15:04:05")
	}
	return at.Format("15:04:05.000000")
}

func padLeft(b *strings.Builder, s string, width int) {
	for range width - utf8.RuneCountInString(s) {
		b.WriteByte(' ')
	}
	b.WriteString(s)
}

func padRight(b *strings.Builder, s string, width int) {
	b.WriteString(s)
	padLeft(b, "", width-utf8.RuneCountInString(s))
}

// firstRunes is s[:n].
func firstRunes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
