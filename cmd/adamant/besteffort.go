package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// table prints the documents of runs as blueapi's client does on stdout, which leaves
// it to bluesky's BestEffortCallback (1.15, bluesky/callbacks/best_effort.py): a
// heading for each run, a table of its primary stream, and its baseline readings. What
// that prints when it draws its plots is printed too; the plots and its warnings on
// stderr are not. It knows one run at a time: a start document ends the one before.
//
// A table is used by one goroutine.
type table struct {
	out io.Writer
	loc *time.Location
	b   strings.Builder // what a document makes it print is written at once

	start       pyDict
	descriptors map[string]pyDict
	streams     map[string]bool
	live        *liveTable
	plots       []*plot

	dims dimensions
	// motors is set while dims.axes are names of devices: the first descriptor of the
	// primary stream tells their fields.
	motors bool

	baseline    strings.Builder // the readings at the end of a run, printed last
	hasBaseline bool            // the next readings are those at the end
}

// plot is what bluesky's LivePlot and PeakStats know of a field that they draw: no more
// than what makes a difference to stdout.
type plot struct {
	descriptor, x, y string
	points           int
	spoiled          bool // by a value that is no number: PeakStats fails
}

// newTable returns a table that shows times in a time zone.
func newTable(out io.Writer, loc *time.Location) *table {
	t := &table{out: out, loc: loc}
	t.clear()
	return t
}

func (t *table) clear() {
	t.start, t.live, t.plots = nil, nil, nil
	t.descriptors, t.streams = map[string]pyDict{}, map[string]bool{}
	t.baseline.Reset()
	t.hasBaseline = false
}

// document prints what a document adds. The error is that of the writer, or says why
// a document could not be read; what that made bluesky leave out is left out here,
// and the next documents are not affected.
func (t *table) document(e blueapi.DataEvent) error {
	var show func(pyDict) error
	switch e.Name {
	case "start":
		show = t.startRun
	case "descriptor":
		show = t.descriptor
	case "event":
		show = t.event
	case "event_page":
		show = t.eventPage
	case "stop":
		show = t.stop
	default:
		return nil
	}
	doc, err := readDocument(e)
	if err == nil {
		err = show(doc)
	}
	if t.b.Len() > 0 {
		_, failed := io.WriteString(t.out, t.b.String())
		t.b.Reset()
		if failed != nil {
			return failed
		}
	}
	if err != nil {
		return fmt.Errorf("document %s: %w", e.Name, err)
	}
	return nil
}

// readDocument reads a document: of an event, of which there are many, no more than is
// shown.
func readDocument(e blueapi.DataEvent) (pyDict, error) {
	if e.Name != "event" {
		return readDict(e.Doc)
	}
	var raw struct {
		Descriptor json.RawMessage `json:"descriptor"`
		Time       json.RawMessage `json:"time"`
		SeqNum     json.RawMessage `json:"seq_num"`
		Data       json.RawMessage `json:"data"`
		Filled     json.RawMessage `json:"filled"`
	}
	if err := json.Unmarshal(e.Doc, &raw); err != nil {
		return nil, err
	}
	var doc pyDict
	for _, member := range []struct {
		key string
		raw json.RawMessage
	}{{"descriptor", raw.Descriptor}, {"time", raw.Time}, {"seq_num", raw.SeqNum}, {"data", raw.Data}, {"filled", raw.Filled}} {
		if member.raw == nil {
			continue
		}
		v, err := parsePython(member.raw)
		if err != nil {
			return nil, err
		}
		doc = append(doc, pyItem{member.key, asReceived(v)})
	}
	return doc, nil
}

func (t *table) startRun(doc pyDict) error {
	t.clear()
	t.start = doc
	hinted, err := hintedDimensions(doc)
	if err != nil {
		return err
	}
	if hinted == nil {
		t.motors = true
		if hinted, err = guessedDimensions(doc); err != nil {
			return err
		}
	}
	t.dims = *hinted

	at, err := moment(doc, t.loc)
	if err != nil {
		return err
	}
	scan, ok := doc.lookup("scan_id")
	if !ok {
		scan = ""
	}
	fmt.Fprintf(&t.b, "\n\nTransient Scan ID: %s     Time: %s\n", pyStr(scan), at.Format("2006-01-02 15:04:05"))
	uid, ok := doc.lookup("uid")
	if !ok {
		return errNoMember("uid")
	}
	fmt.Fprintf(&t.b, "Persistent Unique Scan ID: '%s'\n", pyStr(uid))
	return nil
}

func (t *table) descriptor(doc pyDict) error {
	uid, err := need[string](doc, "uid")
	if err != nil {
		return err
	}
	t.descriptors[uid] = doc
	stream := "primary" // of documents that are old
	if v, ok := doc.lookup("name"); ok {
		if stream, ok = v.(string); !ok {
			return errValue
		}
	}
	if !t.streams[stream] {
		t.streams[stream] = true
		fmt.Fprintf(&t.b, "New stream: %s\n", pyQuote(stream))
	}
	columns, err := hintedFields(doc)
	if err != nil {
		return err
	}
	if stream == "primary" && t.motors {
		t.motors = false
		if err := t.findAxes(doc); err != nil {
			return err
		}
	}
	columns = slices.DeleteFunc(columns, func(c string) bool { return slices.Contains(t.dims.fields, c) })
	if err := t.addPlots(doc, uid, stream, columns); err != nil {
		return err
	}
	if stream != t.dims.stream {
		return nil
	}
	t.live = newLiveTable(t.loc, t.start, slices.Concat(t.dims.fields, columns))
	return t.live.descriptor(&t.b, doc)
}

// findAxes replaces the names of motors by their fields.
func (t *table) findAxes(descriptor pyDict) error {
	var axes []string
	for _, name := range t.dims.axes {
		if name == "time" {
			axes = append(axes, name)
			continue
		}
		fields, err := fieldsOf(descriptor, name)
		if err != nil {
			return err
		}
		axes = append(axes, fields...)
	}
	t.dims.axes = axes
	return nil
}

// addPlots notes what bluesky plots over one variable. Its other plots print nothing.
func (t *table) addPlots(doc pyDict, uid, stream string, columns []string) error {
	axes := []string{"time"}
	if stream == t.dims.stream {
		axes = t.dims.axes
		if t.start.get("num_points") == any(pyInt("1")) {
			return nil
		}
	}
	if stream == "baseline" || len(axes) != 1 {
		return nil
	}
	t.plots = slices.DeleteFunc(t.plots, func(p *plot) bool { return p.descriptor == uid })
	for _, y := range columns {
		keys, _ := doc.get("data_keys").(pyDict)
		key, _ := keys.get(y).(pyDict)
		dtype, err := need[string](key, "dtype")
		if err != nil {
			return err // and there is no table
		}
		if dtype == "number" || dtype == "integer" {
			t.plots = append(t.plots, &plot{descriptor: uid, x: axes[0], y: y})
		}
	}
	return nil
}

func (t *table) event(doc pyDict) error {
	uid, err := need[string](doc, "descriptor")
	if err != nil {
		return err
	}
	descriptor, ok := t.descriptors[uid]
	if !ok {
		return fmt.Errorf("descriptor %s is not known", uid)
	}
	switch descriptor.get("name") {
	case "primary":
		if t.live != nil {
			t.live.event(&t.b, doc)
		}
	case "baseline":
		if err := t.readBaseline(descriptor, doc); err != nil {
			return err
		}
	}
	data, err := need[pyDict](doc, "data")
	if err != nil {
		return err
	}
	for _, p := range t.plots {
		if p.descriptor == uid {
			p.event(doc, data)
		}
	}
	return nil
}

func (p *plot) event(doc, data pyDict) {
	y, ok := data.lookup(p.y)
	if !ok {
		return
	}
	x, ok := data.lookup(p.x)
	if ok {
		p.spoiled = p.spoiled || !isPyNumber(x) || !isPyNumber(y)
	} else if p.x == "time" || p.x == "seq_num" {
		x, ok = doc.lookup(p.x)
	}
	if ok && (p.x != "time" || isPyNumber(x)) {
		p.points++
	}
}

// readBaseline prints the readings before a run, and keeps those after it for its end.
func (t *table) readBaseline(descriptor, doc pyDict) error {
	hinted, err := hintedFields(descriptor)
	if err != nil {
		return err
	}
	b, when := &t.b, "Start"
	if t.hasBaseline {
		b, when = &t.baseline, "End"
	}
	t.hasBaseline = !t.hasBaseline
	border := "+" + strings.Repeat("-", 32) + "+" + strings.Repeat("-", 32) + "+\n"
	fmt.Fprintf(b, "%s-of-run baseline readings:\n%s", when, border)
	data, err := need[pyDict](doc, "data")
	if err != nil {
		return err
	}
	for _, item := range data {
		if !slices.Contains(hinted, item.key) {
			continue
		}
		value := pyStr(item.value)
		switch v := item.value.(type) {
		case nil, []any, pyDict: // Python cannot pad them
			return errValue
		case bool: // which Python formats as an integer
			value = "0"
			if v {
				value = "1"
			}
		}
		b.WriteString("| ")
		padLeft(b, item.key, 30)
		b.WriteString(" | ")
		padRight(b, value, 30)
		b.WriteString(" |\n")
	}
	b.WriteString(border)
	return nil
}

// eventPage shows each event of a page.
func (t *table) eventPage(doc pyDict) error {
	descriptor, ok := doc.lookup("descriptor")
	if !ok {
		return errNoMember("descriptor")
	}
	var columns [5][]any
	for i, name := range []string{"uid", "time", "seq_num"} {
		list, err := need[[]any](doc, name)
		if err != nil {
			return err
		}
		columns[i] = list
	}
	for i, name := range []string{"data", "filled"} {
		v, ok := doc.lookup(name)
		lists, isDict := v.(pyDict)
		if !isDict && (ok || name == "data") {
			return errNoMember(name)
		}
		columns[3+i] = transpose(lists)
	}
	rows := 0
	for _, c := range columns {
		rows = max(rows, len(c))
	}
	at := func(column, row int) any {
		if row < len(columns[column]) {
			return columns[column][row]
		}
		return pyDict{}
	}
	for i := range rows {
		err := t.event(pyDict{
			{"descriptor", descriptor},
			{"uid", at(0, i)},
			{"time", at(1, i)},
			{"seq_num", at(2, i)},
			{"data", at(3, i)},
			{"filled", at(4, i)},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// transpose makes a list of dicts of a dict of lists, as long as the shortest.
func transpose(lists pyDict) []any {
	var rows []any
	for i := 0; len(lists) > 0; i++ {
		row := make(pyDict, len(lists))
		for j, item := range lists {
			list, _ := item.value.([]any)
			if i >= len(list) {
				return rows
			}
			row[j] = pyItem{item.key, list[i]}
		}
		rows = append(rows, row)
	}
	return rows
}

func (t *table) stop(doc pyDict) error {
	var err error
	if t.live != nil {
		err = t.live.stop(&t.b, doc)
	}
	if slices.ContainsFunc(t.plots, func(p *plot) bool { return p.spoiled }) {
		return errValue // and bluesky prints no more of this run
	}
	for _, p := range t.plots {
		if p.points == 0 {
			fmt.Fprintf(&t.b, "LivePlot did not get any data that corresponds to the x axis. %s\n", p.x)
			fmt.Fprintf(&t.b, "LivePlot did not get any data that corresponds to the y axis. %s\n", p.y)
		}
	}
	t.b.WriteString(t.baseline.String() + "\n\n\n")
	return err
}
