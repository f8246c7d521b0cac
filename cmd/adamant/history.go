package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/internal/journal"
)

// historyOptions select what is shown of the journal.
type historyOptions struct {
	plan, key string
	since     since
	stands    standing
	limit     int
	calls     bool
}

func (a *app) historyCommand() *cobra.Command {
	o := historyOptions{limit: 20}
	f := compact
	cmd := &cobra.Command{
		Use:   "history [OPTIONS] [TASK]",
		Short: "Show what was run from this machine, and what became of it",
		Long: `Show what was run from this machine by you, at all servers, and what became of it.
What was begun last comes first.

With a TASK, or the id of a run, all steps of that run are shown, and the attempts
of those of its calls that needed more than one; with --calls, the latest calls of
all commands that did. No server is asked.

Kept are the runs of 90 days; of those without a key that have an end, the last
10,000.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			task, err := oneAtMost(cmd, args, "TASK")
			if err != nil {
				return err
			}
			if o.limit < 1 {
				return usageError{cmd, fmt.Sprintf("Invalid value for '--limit': %d is not in the range x>=1.", o.limit)}
			}
			return a.history(cmd.Context(), task, o, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.plan, "plan", "", "only runs of this `PLAN`")
	flags.StringVar(&o.key, "key", "", "only runs with this `KEY`")
	flags.Var(&o.since, "since", "only runs begun since then: 90m, 7d, 2026-11-24 or '2026-11-24 15:00'")
	flags.Var(&o.stands, "word", "only runs of which this is known")
	flags.IntVar(&o.limit, "limit", o.limit, "not more than `N`")
	flags.BoolVar(&o.calls, "calls", false, "the latest calls that needed more than one attempt")
	addFormat(flags, &f)
	rename(flags, "output", "OUTPUT", "BLUEAPI_CONTROLLER_OUTPUT")
	return cmd
}

// history shows what the journal has.
func (a *app) history(ctx context.Context, named string, o historyOptions, f format) error {
	j, err := a.readJournal(ctx)
	if err != nil {
		return a.endOfJournal(ctx, err)
	}
	if j == nil {
		if named != "" {
			return a.notInJournal(named)
		}
		a.ui.note("there is no journal yet: nothing was run from this machine by you")
		return a.ui.result(f.history(nil))
	}
	defer func() { _ = j.Close() }()
	text, err := a.historyText(ctx, j, named, o, f)
	if err != nil {
		return err
	}
	return a.ui.result(text)
}

func (a *app) historyText(ctx context.Context, j *journal.Journal, named string, o historyOptions, f format) (string, error) {
	switch {
	case named != "":
		run, found, err := (&runJournal{journal: j}).named(ctx, named)
		if err != nil {
			return "", a.endOfJournal(ctx, err)
		}
		if !found {
			return "", a.notInJournal(named)
		}
		past, err := pastRunOf(j, run)
		if err == nil {
			past.calls, err = j.Calls(ctx, run.ID, o.limit)
		}
		if err != nil {
			return "", a.endOfJournal(ctx, err)
		}
		past.whole = true
		return f.pastRun(past)
	case o.calls:
		calls, err := j.Calls(ctx, "", o.limit)
		if err != nil {
			return "", a.endOfJournal(ctx, err)
		}
		return f.calls(calls), nil
	}
	runs, err := selectRuns(ctx, j, o)
	if err != nil {
		return "", a.endOfJournal(ctx, err)
	}
	return f.history(runs), nil
}

func (a *app) notInJournal(named string) error {
	return ending{
		msg:    a.ui.voice.errorf("the journal has no run of a task %s, nor one of that id; 'adamant history' lists what it has", named),
		status: statusError,
	}
}

// pastRun is a run of the journal, with what its entries do not tell.
type pastRun struct {
	journal.Run
	stands standing
	whole  bool // with its steps and calls
	calls  []journal.Call
}

func pastRunOf(j *journal.Journal, r journal.Run) (pastRun, error) {
	lives, err := j.Owned(r.ID)
	return pastRun{Run: r, stands: standingOf(r, lives)}, err
}

// selectRuns returns the runs that a user wants to see, those that were begun last
// first.
func selectRuns(ctx context.Context, j *journal.Journal, o historyOptions) ([]pastRun, error) {
	q := journal.Query{Plan: o.plan, Key: o.key, Since: time.Time(o.since), Limit: o.limit}
	queries := []journal.Query{q}
	if o.stands != "" {
		ended, open := q, q
		ended.Word = o.stands.word()
		open.Unfinished, open.Limit = true, math.MaxInt32 // of which it depends on the owner how they stand
		queries = []journal.Query{open}
		if ended.Word != "" {
			queries = append(queries, ended)
		}
	}
	var selected []pastRun
	for _, q := range queries {
		runs, err := j.Runs(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			past, err := pastRunOf(j, r)
			if err != nil {
				return nil, err
			}
			if o.stands == "" || past.stands == o.stands {
				selected = append(selected, past)
			}
		}
	}
	slices.SortStableFunc(selected, func(a, b pastRun) int { return b.At.Compare(a.At) })
	return selected[:min(len(selected), o.limit)], nil
}

// standing is what is known of a run in a word or two: how it ended, or how it stands
// that has no end.
type standing string

const (
	standsDone       = standing(journal.Done)
	standsNotStarted = standing(journal.NotStarted)
	standsUnknown    = standing(journal.Unknown)
	// goesOn: its owner lives.
	goesOn standing = "goes on"
	// notSettled: it was or may have been started, and its owner has died or gone.
	notSettled standing = "not settled"
)

func standingOf(r journal.Run, lives bool) standing {
	end := r.End()
	switch {
	case end != nil:
		return standing(end.Word)
	case lives:
		return goesOn
	case r.NotStarted():
		return standsNotStarted
	}
	return notSettled
}

// word is the word of the runs that ended so; "" if none did.
func (s standing) word() journal.Word {
	switch s {
	case standsDone, standsNotStarted, standsUnknown:
		return journal.Word(s)
	case goesOn, notSettled:
	}
	return ""
}

// Set reads what a user gives.
func (s *standing) Set(text string) error {
	given := standing(strings.ReplaceAll(text, "-", " "))
	if !slices.Contains([]standing{standsDone, standsNotStarted, standsUnknown, goesOn, notSettled}, given) {
		return fmt.Errorf("'%s' is not one of 'done', 'not-started', 'unknown', 'goes-on', 'not-settled'", text)
	}
	*s = given
	return nil
}

func (s *standing) String() string { return "" }

// Type is how the help shows what to give.
func (s *standing) Type() string { return "[done|not-started|unknown|goes-on|not-settled]" }

// since is a time in the past, the zero time being for ever.
type since time.Time

// Set reads a time, or how long ago it was.
func (s *since) Set(text string) error {
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			*s = since(t)
			return nil
		}
	}
	ago, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok && err != nil {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		ago = durationOf(n * (24 * time.Hour).Seconds())
		if n < 0 {
			ago = -1
		}
	}
	if err != nil || ago < 0 {
		return fmt.Errorf("'%s' is neither a duration such as 90m or 7d nor a time such as 2026-11-24 or '2026-11-24 15:00'", text)
	}
	*s = since(time.Now().Add(-ago))
	return nil
}

func (s *since) String() string { return "" }

// Type is how the help shows what to give.
func (s *since) Type() string { return "TIME" }
