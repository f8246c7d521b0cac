package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/internal/journal"
)

func (a *app) lastCommand() *cobra.Command {
	f := compact
	cmd := &cobra.Command{
		Use:   "last [OPTIONS]",
		Short: "Show your last run at this server",
		Long: `Show the last run that was begun from this machine at this server, by the journal.
The server is not asked: 'adamant task' and 'adamant result' do that.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			return a.last(cmd.Context(), f)
		},
	}
	a.addOwn(cmd.Flags(), &f)
	return cmd
}

func (a *app) last(ctx context.Context, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	j, err := a.knownRuns(ctx, c)
	if err != nil {
		return a.endOfJournal(ctx, err)
	}
	defer j.close()
	if j == nil {
		return a.noRunHere()
	}
	run, found, err := j.last(ctx)
	if err != nil {
		return a.endOfJournal(ctx, err)
	}
	if !found {
		return a.noRunHere()
	}
	past, err := pastRunOf(j.journal, run)
	if err != nil {
		return a.endOfJournal(ctx, err)
	}
	text, err := f.pastRun(past)
	if err != nil {
		return err
	}
	return a.ui.result(text)
}

// last returns the last run at the server.
func (j *runJournal) last(ctx context.Context) (run journal.Run, found bool, err error) {
	runs, err := j.runs(ctx, journal.Query{Limit: 1})
	if len(runs) == 0 {
		return run, false, err
	}
	return runs[0], true, nil
}

// noRunHere is the end of a command for the last run of a user who has made none.
func (a *app) noRunHere() error {
	return ending{
		msg:    a.ui.voice.errorf("the journal has no run at this server; 'adamant history' lists those at all servers"),
		status: statusError,
	}
}
