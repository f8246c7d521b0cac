package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/spf13/pflag"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/journal"
)

// journalOptions are the options of the journal that a run has.
type journalOptions struct {
	none bool   // keep nothing
	key  runKey // the run's; "" if it has none
}

// add adds the options to a command.
func (o *journalOptions) add(flags *pflag.FlagSet) {
	flags.Var(&o.key, "key", "a `NAME` for the run: one that was made under it before is not made again")
	flags.BoolVar(&o.none, "no-journal", false, "keep no record of the run: after a crash it cannot be resumed")
}

// runKey is a key of a run. A script whose variable is empty is not to run its plan as if
// it had asked for none.
type runKey string

// Set reads a key.
func (k *runKey) Set(text string) error {
	if text == "" {
		return errors.New("it is empty")
	}
	*k = runKey(text)
	return nil
}

func (k *runKey) String() string { return "" }

// Type is how the help shows what to give.
func (k *runKey) Type() string { return "NAME" }

// runJournal keeps the runs of a client in the journal of this machine. A nil
// runJournal keeps nothing.
type runJournal struct {
	app     *app
	journal *journal.Journal
	server  string // as the journal names it
	key     string // of the runs that are begun
	// endedBy is the verb by which the user of this process has ended the plan that it
	// follows, 0 if by none; nil if it follows none.
	endedBy func() blueapi.Verb

	mu     sync.Mutex
	owners map[string]*journal.Owner // of the runs in hand
	run    string                    // the latest of them
	unkept string                    // the one that could not be begun, and is made all the same
	said   bool                      // that it fails
}

// openJournal has the runs of a client kept in the journal, which is made if need be.
// If that cannot be, the error is how the command ends; but under controller, where no
// script must break, that is said and nothing is kept. What it returns must be closed,
// also if it is nil.
func (a *app) openJournal(ctx context.Context, c *blueapi.Client, o journalOptions) (*runJournal, error) {
	if o.none && o.key != "" {
		return nil, usageError{nil, "--key needs the journal, so it excludes --no-journal."}
	}
	if o.none {
		return nil, nil
	}
	server, err := journal.ServerName(c.URL)
	if err != nil {
		return nil, nil //nolint:nilerr // no call can be made either, and the first one will say why
	}
	j, err := a.useJournal(ctx, journal.Open)
	if err != nil {
		return nil, a.endWithoutJournal(ctx, err)
	}
	return a.keepRuns(c, j, server, string(o.key)), nil
}

// endWithoutJournal is the end of a command whose run cannot be kept; under controller
// it is not.
func (a *app) endWithoutJournal(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return ending{msg: a.ui.voice.errorf("nothing was started: no time left"), status: statusNotStarted}
	case ctx.Err() != nil:
		return endOfInterrupt(a.ui.voice)
	case a.ui.voice == asBlueapi:
		a.ui.message("adamant: " + withoutJournal(err))
		return nil
	}
	return ending{msg: a.ui.voice.errorf("nothing was started: %s", journalRefusal(err)), status: statusNotStarted}
}

// knownRuns is openJournal for a command that comes back to runs: it is nil if there is
// no journal yet.
func (a *app) knownRuns(ctx context.Context, c *blueapi.Client) (*runJournal, error) {
	server, err := journal.ServerName(c.URL)
	if err != nil {
		return nil, nil //nolint:nilerr // as above
	}
	j, err := a.readJournal(ctx)
	if j == nil || err != nil {
		return nil, err
	}
	return a.keepRuns(c, j, server, ""), nil
}

func (a *app) keepRuns(c *blueapi.Client, j *journal.Journal, server, key string) *runJournal {
	kept := &runJournal{app: a, journal: j, server: server, key: key, owners: map[string]*journal.Owner{}}
	a.calls.recordIn(kept)
	c.Journal = kept
	return kept
}

// opener is journal.Open or journal.OpenExisting.
type opener func(ctx context.Context, dir string) (*journal.Journal, error)

// useJournal opens the journal where it is to be found.
func (a *app) useJournal(ctx context.Context, open opener) (*journal.Journal, error) {
	place, err := journal.FindPlace(os.Getenv)
	if err != nil {
		return nil, err
	}
	if a.level == verbose && !place.Usual {
		a.ui.note("the journal is in %s: %s", place.Dir, place.Why)
	}
	return open(ctx, place.Dir)
}

// readJournal opens the journal for a command that looks into it. It is nil if there
// is none yet.
func (a *app) readJournal(ctx context.Context) (*journal.Journal, error) {
	j, err := a.useJournal(ctx, journal.OpenExisting)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return j, err
}

// endOfJournal is the end of a command that the journal fails.
func (a *app) endOfJournal(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return endOfInterrupt(a.ui.voice)
	}
	return ending{msg: a.ui.voice.errorf("the journal: %s", journalTrouble(err)), status: statusError}
}

// close gives the runs in hand up, and closes the journal.
func (j *runJournal) close() {
	if j == nil {
		return
	}
	j.app.calls.recordIn(nil)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, o := range j.owners {
		o.Close()
	}
	clear(j.owners)
	_ = j.journal.Close() // all that was recorded is on the disk
}

// Record keeps a step of a run.
func (j *runJournal) Record(ctx context.Context, e blueapi.Entry) error {
	if e.Result != nil && j.endedBy != nil {
		result := withVerb(*e.Result, j.endedBy())
		e.Result = &result
	}
	var err error
	if e.Step == blueapi.StepIntent {
		err = j.begin(ctx, e)
	} else if o := j.owner(e.RunID); o != nil {
		err = o.Record(ctx, journalEntry(e))
	} else if j.goesOnWithout(e.RunID) {
		return nil
	} else {
		return errNotInHand
	}
	if errors.Is(err, journal.ErrOtherStart) {
		return blueapi.ErrOtherStart
	}
	if _, used := errors.AsType[*journal.KeyError](err); err == nil || used {
		return err
	}
	if j.app.ui.voice == asBlueapi {
		j.goOnWithout(e.RunID)
		j.say(withoutJournal(err))
		return nil
	}
	if e.Step == blueapi.StepStarted || e.Step == blueapi.StepEnded {
		j.say("the run is not recorded to its end: " + journalTrouble(err))
	}
	if journal.KindOf(err) == 0 {
		return err // a name that is too long, or the context's
	}
	return &journalError{err}
}

// errNotInHand is the error of a step of a run that is not this process's.
var errNotInHand = errors.New("the run is not in hand")

// goOnWithout notes that a run is made although the journal fails.
func (j *runJournal) goOnWithout(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.unkept = id
}

func (j *runJournal) goesOnWithout(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.unkept == id
}

// say tells the user once that the journal fails.
func (j *runJournal) say(text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.said {
		j.said = true
		j.app.ui.message("adamant: " + text)
	}
}

func (j *runJournal) begin(ctx context.Context, e blueapi.Entry) error {
	o, err := j.journal.Begin(ctx, journal.Request{
		ID: e.RunID, At: e.At, Server: j.server, Plan: e.Request.Name,
		Params: e.Request.Params, Session: e.Request.InstrumentSession, Key: j.key,
	})
	if err == nil {
		j.hold(e.RunID, o)
	}
	return err
}

// take makes this process the owner of a run whose owner has died or gone. It reports
// whether it is now.
func (j *runJournal) take(ctx context.Context, id string) (bool, error) {
	if j.owner(id) != nil {
		return true, nil
	}
	o, err := j.journal.Own(ctx, id)
	if errors.Is(err, journal.ErrOwned) {
		return false, nil
	}
	if err == nil {
		j.hold(id, o)
	}
	return err == nil, err
}

func (j *runJournal) hold(id string, o *journal.Owner) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.owners[id], j.run = o, id
}

func (j *runJournal) owner(id string) *journal.Owner {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.owners[id]
}

// inHand is the run that was begun or taken last; "" if none was.
func (j *runJournal) inHand() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.run
}

// runs returns runs at the server, those that were begun last first.
func (j *runJournal) runs(ctx context.Context, q journal.Query) ([]journal.Run, error) {
	q.Server = j.server
	return j.journal.Runs(ctx, q)
}

// find returns the run of an id.
func (j *runJournal) find(ctx context.Context, id string) (journal.Run, error) {
	runs, err := j.journal.Runs(ctx, journal.Query{ID: id, Limit: 1})
	if err == nil && len(runs) == 0 {
		err = journal.ErrNoRun
	}
	if err != nil {
		return journal.Run{}, err
	}
	return runs[0], nil
}

// journalEntry is a step as the journal has it.
func journalEntry(e blueapi.Entry) journal.Entry {
	entry := journal.Entry{Step: journalStep(e.Step), At: e.At, Task: e.TaskID, Environment: e.EnvironmentID}
	if r := e.Result; r != nil {
		entry.End = &journal.End{Word: journalWord(r.Word), Reason: endText(*r)}
		if o := r.Outcome; o != nil {
			entry.End.Outcome, entry.End.Type, entry.End.Message, entry.End.Result = o.Kind, o.Type, o.Message, o.Result
		}
	}
	return entry
}

func journalStep(s blueapi.Step) journal.Step {
	//exhaustive:enforce
	switch s {
	case blueapi.StepIntent:
		return journal.Intent
	case blueapi.StepStarting:
		return journal.Starting
	case blueapi.StepNotSent:
		return journal.NotSent
	case blueapi.StepStarted:
		return journal.Started
	case blueapi.StepWithdrawn:
		return journal.Withdrawn
	case blueapi.StepEnded:
		return journal.Ended
	}
	return ""
}

// runStep is a step of the journal as blueapi has it.
func runStep(s journal.Step) blueapi.Step {
	for step := blueapi.StepIntent; step <= blueapi.StepEnded; step++ {
		if journalStep(step) == s {
			return step
		}
	}
	return 0
}

func journalWord(w blueapi.Word) journal.Word { return journal.Word(w.String()) }
