package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
)

// clock is a time as users read it.
func clock(t time.Time) string { return t.Local().Format(time.DateTime) }

// history lists runs, one a line if compact, in json as a list.
func (f format) history(runs []pastRun) string {
	if f == jsonText {
		list := make([]any, len(runs))
		for i, r := range runs {
			list[i] = r.dict()
		}
		return dumps(list, 2) + "\n"
	}
	var b strings.Builder
	if f == full {
		for i, r := range runs {
			if i > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(r.text())
		}
		return b.String()
	}
	plan, servers := 0, map[string]bool{}
	for _, r := range runs {
		plan = max(plan, utf8.RuneCountInString(oneLine(r.Plan)))
		servers[r.Server] = true
	}
	for _, r := range runs {
		task, _ := r.Task()
		remark := r.remark()
		if end := r.End(); end != nil && end.Outcome != "" {
			remark = oneLine(remark) // and a command in it is left whole
		}
		line := fmt.Sprintf("%s  %-*s  %-36s  %-11s  %s", clock(r.At), plan, oneLine(r.Plan), orDash(task), r.stands, remark)
		if len(servers) > 1 {
			line += "  at " + r.Server
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// remark says more than the word does.
func (r pastRun) remark() string {
	end := r.End()
	switch {
	case r.stands == notSettled:
		return attachText(r.Run)
	case r.stands == goesOn:
		return string(r.Last().Step)
	case end == nil:
		return "its program was ended before that"
	case end.Outcome != "":
		return shortOutcome(&blueapi.Outcome{Kind: end.Outcome, Type: end.Type, Message: end.Message})
	case end.Word == journal.Unknown && mayBeSettled(r.Run):
		return end.Reason + "; " + attachText(r.Run)
	}
	switch reasonOf(end.Reason) {
	case blueapi.NotRecorded:
		if verbOf(end.Reason) == 0 {
			return "paused, aborted or stopped"
		}
	case blueapi.Unpublished:
		return "the broker was away: how it ended is not recorded"
	case blueapi.JournalFailed:
		return "the journal failed"
	}
	return end.Reason
}

// pastRun shows one run.
func (f format) pastRun(r pastRun) (string, error) {
	if f == jsonText {
		return dumps(r.dict(), 0) + "\n", nil
	}
	return r.text(), nil
}

// text shows a run in lines.
func (r pastRun) text() string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-9s %s\n", name, printable(value))
		}
	}
	task, env := r.Task()
	line("plan", r.Plan)
	line("params", r.paramsText())
	line("session", r.Session)
	line("server", r.Server)
	line("key", r.Key)
	line("run", r.ID)
	line("task", task)
	if r.whole {
		line("in", env)
	}
	line("begun", fmt.Sprintf("%s by process %d on %s", clock(r.At), r.Process.PID, r.Process.Host))
	if r.End() != nil {
		line("ended", clock(r.Last().At))
	}
	word := string(r.stands)
	if remark := r.remark(); remark != "" {
		word += ": " + remark
	}
	line("word", word)
	line("result", r.resultText())
	if !r.whole {
		return b.String()
	}
	b.WriteString("steps\n")
	for _, e := range append([]journal.Entry{{Step: journal.Intent, At: r.At}}, r.Entries...) {
		text := fmt.Sprintf("  %s  %-9s  %s", e.At.Local().Format("2006-01-02 15:04:05.000"), e.Step, e.Task)
		if e.End != nil {
			text += "  " + string(e.End.Word) + ": " + e.End.Reason
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	if len(r.calls) > 0 {
		b.WriteString("calls that needed more than one attempt, the last one first\n" + indentText(compact.calls(r.calls), "  "))
	}
	return b.String()
}

// paramsText is the parameters in one line.
func (r pastRun) paramsText() string {
	if r.Params == nil && r.ParamsSize > 0 {
		return fmt.Sprintf("not kept (%d bytes)", r.ParamsSize)
	}
	v, err := parsePython(r.Params)
	if err != nil || v == nil {
		return string(r.Params)
	}
	return dumps(v, 0)
}

// resultText is what the plan returned, "" if nothing.
func (r pastRun) resultText() string {
	end := r.End()
	if end == nil || end.Outcome != "success" || end.ResultSize == 0 {
		return ""
	}
	if end.Result == nil {
		return fmt.Sprintf("not kept (%d bytes of type %s)", end.ResultSize, end.Type)
	}
	v, err := parsePython(end.Result)
	if err != nil || v == nil {
		return ""
	}
	return pyStr(v)
}

// calls lists calls and their attempts.
func (f format) calls(calls []journal.Call) string {
	if f == jsonText {
		return dumps(callDicts(calls), 2) + "\n"
	}
	var b strings.Builder
	for _, c := range calls {
		fmt.Fprintf(&b, "%s  %s: %s after %d attempts in %.1f s (call %s)\n",
			clock(c.At), c.Op, c.Outcome, c.Made, c.Took.Seconds(), c.ID)
		for _, a := range c.Attempts {
			line := fmt.Sprintf("  %3d  at %.1f s, took %.1f s: %s", a.Number, a.At.Sub(c.At).Seconds(), a.Took.Seconds(), a.Verdict)
			if a.Cause != "" {
				line += ": " + printable(a.Cause)
			}
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// dict is a run in JSON.
func (r pastRun) dict() pyDict {
	task, env := r.Task()
	params, err := parsePython(r.Params)
	if err != nil {
		params = nil // it was no JSON when it came
	}
	d := pyDict{
		{"run_id", r.ID},
		{"begun", stamp(r.At)},
		{"plan", r.Plan},
		{"params", params},
		{"params_size", number(r.ParamsSize)},
		{"instrument_session", r.Session},
		{"server", r.Server},
		{"key", orNull(r.Key)},
		{"task_id", orNull(task)},
		{"environment_id", orNull(env)},
		{"pid", number(r.Process.PID)},
		{"host", r.Process.Host},
		{"user", r.Process.User},
		{"word", string(r.stands)},
	}
	d = append(d, endDict(r.Run)...)
	if !r.whole {
		return d
	}
	steps := []any{pyDict{{"step", string(journal.Intent)}, {"at", stamp(r.At)}, {"task_id", nil}}}
	for _, e := range r.Entries {
		steps = append(steps, pyDict{{"step", string(e.Step)}, {"at", stamp(e.At)}, {"task_id", orNull(e.Task)}})
	}
	return append(d, pyItem{"steps", steps}, pyItem{"calls", callDicts(r.calls)})
}

// endDict is what became of a run.
func endDict(r journal.Run) pyDict {
	end := r.End()
	if end == nil {
		return pyDict{{"reason", nil}, {"ended", nil}, {"outcome", nil}}
	}
	d := pyDict{{"reason", orNull(end.Reason)}, {"ended", stamp(r.Last().At)}}
	if end.Outcome == "" {
		return append(d, pyItem{"outcome", nil})
	}
	outcome, err := outcomeDict(&blueapi.Outcome{Kind: end.Outcome, Type: end.Type, Message: end.Message, Result: end.Result})
	if err != nil {
		outcome = nil // it was no JSON when it came
	}
	return append(d, pyItem{"outcome", outcome}, pyItem{"result_size", number(end.ResultSize)})
}

func callDicts(calls []journal.Call) []any {
	list := make([]any, len(calls))
	for i, c := range calls {
		attempts := make([]any, len(c.Attempts))
		for k, a := range c.Attempts {
			attempts[k] = pyDict{
				{"number", number(a.Number)},
				{"at", stamp(a.At)},
				{"waited", a.Waited.Seconds()},
				{"took", a.Took.Seconds()},
				{"verdict", a.Verdict},
				{"cause", orNull(a.Cause)},
			}
		}
		list[i] = pyDict{
			{"call_id", c.ID},
			{"run_id", orNull(c.Run)},
			{"op", c.Op},
			{"at", stamp(c.At)},
			{"took", c.Took.Seconds()},
			{"outcome", c.Outcome},
			{"made", number(c.Made)},
			{"attempts", attempts},
		}
	}
	return list
}

// stamp is a time in JSON.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

func number(n int) pyInt { return pyInt(fmt.Sprint(n)) }
