package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
)

func (a *app) plansCommand() *cobra.Command {
	f := compact
	cmd := &cobra.Command{
		Use:   "plans [OPTIONS] [NAME]",
		Short: "List the plans that the server can run, or show one",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := oneAtMost(cmd, args, "NAME")
			switch {
			case err != nil:
				return err
			case name == "":
				return a.listPlans(cmd.Context(), f)
			}
			return a.showPlan(cmd.Context(), name, f)
		},
	}
	a.addOwn(cmd.Flags(), &f)
	return cmd
}

func (a *app) controllerPlans(f *format) *cobra.Command {
	return &cobra.Command{
		Use:   "plans [OPTIONS]",
		Short: "List the plans that the server can run",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			return a.listPlans(cmd.Context(), *f)
		},
	}
}

func (a *app) listPlans(ctx context.Context, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	plans, err := c.Plans(ctx)
	if err != nil {
		return a.failed(ctx, c, "", err)
	}
	text, err := f.plans(plans)
	if err != nil {
		return err
	}
	return a.ui.result(text)
}

func (a *app) showPlan(ctx context.Context, name string, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	plan, err := c.Plan(ctx, name)
	if err != nil {
		return a.failed(ctx, c, "plan "+name, err)
	}
	if f == jsonText {
		dict, err := planDict(plan)
		if err != nil {
			return err
		}
		return a.ui.result(dumps(withExtra(dict, plan.Extra), 0) + "\n")
	}
	text, err := f.plans([]blueapi.Plan{plan})
	if err != nil {
		return err
	}
	return a.ui.result(text)
}
