package main

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) stateCommand() *cobra.Command {
	f := compact
	cmd := &cobra.Command{
		Use:   "state [OPTIONS]",
		Short: "Show what the server's worker is doing",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			return a.showState(cmd.Context(), f)
		},
	}
	a.addOwn(cmd.Flags(), &f)
	return cmd
}

func (a *app) controllerState() *cobra.Command {
	return &cobra.Command{
		Use:   "state [OPTIONS]",
		Short: "Show what the server's worker is doing",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			return a.showState(cmd.Context(), compact) // blueapi has one format for it
		},
	}
}

func (a *app) showState(ctx context.Context, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	state, err := c.WorkerState(ctx)
	if err != nil {
		return a.failed(ctx, c, "", err)
	}
	if f == jsonText {
		return a.ui.result(dumps(string(state), 0) + "\n")
	}
	return a.ui.result(string(state) + "\n")
}
