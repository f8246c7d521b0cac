package main

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/journal"
)

// gatewayJournal keeps what a gateway starts at one server. A run is owned from its
// intent until its plan has been started, or was not: the plan's end is its caller's to
// see, and kept if the gateway hears of it. A nil gatewayJournal keeps nothing.
type gatewayJournal struct {
	journal *journal.Journal
	server  string // as the journal names it

	mu     sync.Mutex
	owners map[string]*journal.Owner
}

func keepStarts(j *journal.Journal, server string) (*gatewayJournal, error) {
	name, err := journal.ServerName(server)
	if err != nil {
		return nil, err
	}
	return &gatewayJournal{journal: j, server: name, owners: map[string]*journal.Owner{}}, nil
}

// Record keeps a step of a run.
func (j *gatewayJournal) Record(ctx context.Context, e blueapi.Entry) error {
	if e.Step == blueapi.StepIntent {
		o, err := j.journal.Begin(ctx, journal.Request{
			ID: e.RunID, At: e.At, Server: j.server, Plan: e.Request.Name,
			Params: e.Request.Params, Session: e.Request.InstrumentSession,
		})
		if err == nil {
			j.hold(e.RunID, o)
		}
		return err
	}
	o, err := j.owner(ctx, e.RunID)
	if err != nil {
		return err
	}
	if e.Step == blueapi.StepStarted || e.Step == blueapi.StepEnded {
		defer j.giveUp(e.RunID)
	}
	err = o.Record(ctx, journalEntry(e))
	if errors.Is(err, journal.ErrOtherStart) {
		return blueapi.ErrOtherStart
	}
	return err
}

func (j *gatewayJournal) hold(id string, o *journal.Owner) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.owners[id] = o
}

// owner returns the owner of a run, which this gateway becomes if the one that began it
// has died.
func (j *gatewayJournal) owner(ctx context.Context, id string) (*journal.Owner, error) {
	j.mu.Lock()
	o := j.owners[id]
	j.mu.Unlock()
	if o != nil {
		return o, nil
	}
	o, err := j.journal.Own(ctx, id)
	if err == nil {
		j.hold(id, o)
	}
	return o, err
}

func (j *gatewayJournal) giveUp(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if o := j.owners[id]; o != nil {
		o.Close()
		delete(j.owners, id)
	}
}

// unsettled are the starts that nobody has lived to settle: those of earlier gateways,
// and of whoever else of this user asks this server for plans.
func (j *gatewayJournal) unsettled(ctx context.Context) ([]blueapi.Attachment, error) {
	return j.left(ctx, journal.Query{Unsettled: true, Limit: maxUnsettled}, blueapi.StepStarting)
}

// startOf finds a start of a task that nobody has settled, and takes it in hand, unless
// one that lives has it. One who calls the server by another name may be a caller of this
// gateway.
func (j *gatewayJournal) startOf(ctx context.Context, task string) (*gateway.EarlierStart, error) {
	runs, err := j.journal.Runs(ctx, journal.Query{Server: j.server, Task: task, Unsettled: true})
	for _, r := range runs {
		if a := attachment(r, false); a.TaskID == task { // else it has another one by now
			return j.claim(ctx, a)
		}
	}
	return nil, err
}

// claim takes a start in hand; nil if it was settled meanwhile.
func (j *gatewayJournal) claim(ctx context.Context, a blueapi.Attachment) (*gateway.EarlierStart, error) {
	o, err := j.journal.Own(ctx, a.RunID)
	switch {
	case errors.Is(err, journal.ErrOwned): // by this process, perhaps
		return &gateway.EarlierStart{Attachment: a}, nil
	case err != nil:
		return nil, err
	}
	j.hold(a.RunID, o)
	release := func() { j.giveUp(a.RunID) }
	// Whoever had it until just now may have settled it.
	runs, err := j.journal.Runs(ctx, journal.Query{ID: a.RunID, Unsettled: true})
	if err == nil && len(runs) == 1 {
		if now := attachment(runs[0], true); now.TaskID == a.TaskID {
			return &gateway.EarlierStart{Attachment: now, Release: release}, nil
		}
	}
	release()
	return nil, err
}

// attachment is what a gateway has to know of a run to go on with it.
func attachment(r journal.Run, free bool) blueapi.Attachment {
	step := beforeEnd(r)
	task, env := r.Task()
	return blueapi.Attachment{
		RunID: r.ID, Plan: r.Plan, TaskID: task, EnvironmentID: env, Step: runStep(step.Step), At: step.At, Owned: free,
	}
}

// maxBegun is how many runs are looked at whose end is not known: those who have begun
// them wait for the latest of them, if at all.
const maxBegun = 100

// begun are the plans that earlier gateways have started, or others who have died, and
// whose end nobody has kept.
func (j *gatewayJournal) begun(ctx context.Context) ([]blueapi.Attachment, error) {
	return j.left(ctx, journal.Query{Unfinished: true, Limit: maxBegun}, blueapi.StepStarted)
}

// left are the runs of a query that nobody owns, if this was their last step before any
// end.
func (j *gatewayJournal) left(ctx context.Context, q journal.Query, last blueapi.Step) ([]blueapi.Attachment, error) {
	q.Server = j.server
	runs, err := j.journal.Runs(ctx, q)
	if err != nil {
		return nil, err
	}
	var all []blueapi.Attachment
	for _, r := range runs {
		a := attachment(r, true)
		if a.Step != last {
			continue
		}
		owned, err := j.journal.Owned(r.ID)
		if err != nil {
			return nil, err
		}
		if owned || a.TaskID == "" { // it is being settled, or cannot be
			continue
		}
		all = append(all, a)
	}
	slices.Reverse(all) // the latest word on a task is the last
	return all, nil
}

// KeepAlias keeps an alias.
func (j *gatewayJournal) KeepAlias(ctx context.Context, a gateway.Alias) error {
	return j.journal.KeepAlias(ctx, j.server, journal.Alias{Shown: a.Shown, Real: a.Real, Environment: a.EnvironmentID})
}

// Aliases returns those that are kept.
func (j *gatewayJournal) Aliases(ctx context.Context) ([]gateway.Alias, error) {
	kept, err := j.journal.Aliases(ctx, j.server)
	var all []gateway.Alias
	for _, a := range kept {
		all = append(all, gateway.Alias{Shown: a.Shown, Real: a.Real, EnvironmentID: a.Environment})
	}
	return all, err
}

// KeepReload keeps which reload is under way.
func (j *gatewayJournal) KeepReload(ctx context.Context, r gateway.Reload) error {
	return j.journal.KeepReload(ctx, j.server, journal.Reload{Environment: r.EnvironmentID, At: r.At})
}

// Reload returns the reload that was kept last.
func (j *gatewayJournal) Reload(ctx context.Context) (gateway.Reload, error) {
	r, err := j.journal.Reload(ctx, j.server)
	return gateway.Reload{EnvironmentID: r.Environment, At: r.At}, err
}

// close gives up what is left.
func (j *gatewayJournal) close() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, o := range j.owners {
		o.Close()
	}
	clear(j.owners)
}
