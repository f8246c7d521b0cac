package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/adamant-go/adamant/blueapi"
)

// errUnknownEvent is what comes of an event of which only the bytes are known.
var errUnknownEvent = errors.New("an event of a kind that is not known")

// event words an event as blueapi's client does (1.21, blueapi/cli/format.py), which
// has no words for a gap.
func (f format) event(e blueapi.Event) (string, error) {
	if e.Gap != nil {
		return f.gap(*e.Gap)
	}
	if f != jsonText && f != full && e.Progress == nil {
		switch {
		case e.Worker != nil:
			return "Worker Event: " + string(e.Worker.State) + "\n", nil
		case e.Data != nil:
			return "Data Event: " + e.Data.Name + "\n", nil
		}
	}
	raw, err := readDict(e.Raw)
	if err != nil {
		return "", err
	}
	title := ""
	var dict, shown pyDict // all that is in it, and what full shows
	switch {
	case e.Worker != nil:
		dict, title = workerDict(raw), "WorkerEvent: "+string(e.Worker.State)
		shown, _ = dict.get("task_status").(pyDict)
	case e.Progress != nil:
		dict, title = progressDict(raw), "Progress:"
		shown = dict
	case e.Data != nil:
		dict, title = modelled(raw, pyDict{{"name", nil}, {"doc", nil}, {"task_id", nil}}), pyTitle(e.Data.Name)+":"
		shown, _ = dict.get("doc").(pyDict)
	default:
		return "", errUnknownEvent
	}
	switch f {
	case jsonText:
		return dumps(dict, 0) + "\n", nil
	case full:
		b := strings.Builder{}
		b.WriteString(title)
		writeTree(&b, shown, 1)
		return b.String() + "\n", nil
	default:
		return "Progress: " + percentage(dict.get("statuses")) + "%\n", nil
	}
}

// gap words a gap: in JSON as {"gap": ...}.
func (f format) gap(g blueapi.Gap) (string, error) {
	if f != jsonText {
		return gapText(g) + "\n", nil
	}
	b, err := json.Marshal(struct {
		Gap recordedGap `json:"gap"`
	}{recordGap(g)})
	return string(b) + "\n", err
}

// gapText tells a user of a gap.
func gapText(g blueapi.Gap) string {
	cause := ""
	if g.Err != nil {
		cause = fmt.Sprintf(" (%v)", g.Err)
	}
	switch {
	case g.Missed > 0:
		return fmt.Sprintf("%d events were dropped%s", g.Missed, cause)
	case g.Until.IsZero():
		return "the broker is away: events may be missing" + cause
	default:
		return fmt.Sprintf("the broker is back after %.1f s: events may be missing", g.Until.Sub(g.From).Seconds())
	}
}

// The members that blueapi's models have, in their order, and what those are that the
// server leaves out (1.21, blueapi/worker/event.py).
func workerDict(raw pyDict) pyDict {
	d := modelled(raw, pyDict{{"state", nil}, {"task_status", nil}, {"errors", []any{}}, {"warnings", []any{}}})
	if task, ok := d[1].value.(pyDict); ok {
		task = modelled(task, pyDict{{"task_id", nil}, {"result", nil}, {"task_complete", false}, {"task_failed", false}})
		if result, ok := task[1].value.(pyDict); ok {
			model := pyDict{{"outcome", nil}, {"result", nil}, {"type", nil}}
			if result.get("outcome") == "error" {
				model = pyDict{{"outcome", nil}, {"type", nil}, {"message", nil}}
			}
			task[1].value = modelled(result, model)
		}
		d[1].value = task
	}
	return d
}

func progressDict(raw pyDict) pyDict {
	d := modelled(raw, pyDict{{"task_id", nil}, {"statuses", pyDict{}}})
	moves, _ := d[1].value.(pyDict)
	shown := make(pyDict, len(moves))
	for i, move := range moves {
		given, _ := move.value.(pyDict)
		status := modelled(given, pyDict{
			{"display_name", "Unknown"},
			{"current", nil},
			{"initial", nil},
			{"target", nil},
			{"unit", "units"},
			{"precision", nil},
			{"done", false},
			{"percentage", nil},
			{"time_elapsed", nil},
			{"time_remaining", nil},
		})
		for j := range status {
			if n, ok := status[j].value.(pyInt); ok && status[j].key != "precision" {
				status[j].value, _ = strconv.ParseFloat(string(n), 64)
			}
		}
		shown[i] = pyItem{move.key, status}
	}
	d[1].value = shown
	return d
}

// modelled fills a model's defaults in.
func modelled(raw, defaults pyDict) pyDict {
	for i, item := range defaults {
		if v, ok := raw.lookup(item.key); ok {
			defaults[i].value = v
		}
	}
	return defaults
}

// percentage is that of the move which is farthest.
func percentage(statuses any) string {
	moves, _ := statuses.(pyDict)
	if len(moves) == 0 {
		return "???"
	}
	most, known := 0.0, false // Python's max keeps the first of equals, and 0 of nothing is an integer
	for i, move := range moves {
		status, _ := move.value.(pyDict)
		f, _ := status.get("percentage").(float64)
		if p := 100 * f; i == 0 || p > most {
			most, known = p, f != 0
		}
	}
	if !known {
		return "0"
	}
	return pyFloat(most)
}

// writeTree is blueapi's fmt_dict: members that are empty, or nothing, are left out.
func writeTree(b *strings.Builder, d pyDict, depth int) {
	b.WriteByte('\n')
	first := true
	for _, item := range d {
		if !pyTruth(item.value) {
			continue
		}
		if !first {
			b.WriteByte('\n')
		}
		first = false
		b.WriteString(strings.Repeat("    ", depth) + item.key + ":")
		if inner, ok := item.value.(pyDict); ok {
			writeTree(b, inner, depth+1)
		} else {
			b.WriteString(" " + pyStr(item.value))
		}
	}
}

// pyTitle is str.title().
func pyTitle(s string) string {
	cased := false
	return strings.Map(func(r rune) rune {
		if cased {
			r = unicode.ToLower(r)
		} else {
			r = unicode.ToTitle(r)
		}
		cased = unicode.IsUpper(r) || unicode.IsLower(r) || unicode.IsTitle(r)
		return r
	}, s)
}
