package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
)

func (a *app) pythonEnvCommand() *cobra.Command {
	f := compact
	cmd := a.newPythonEnvCommand("python-env", &f)
	a.addOwn(cmd.Flags(), &f)
	return cmd
}

func (a *app) controllerPythonEnv(f *format) *cobra.Command {
	return a.newPythonEnvCommand("get-python-env", f)
}

func (a *app) newPythonEnvCommand(name string, f *format) *cobra.Command {
	var filter blueapi.PackageFilter
	cmd := &cobra.Command{
		Use:   name + " [OPTIONS]",
		Short: "List the Python packages that are installed on the server",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch filter.Source {
			case "", blueapi.SourcePyPI, blueapi.SourceScratch:
			default:
				return usageError{cmd, fmt.Sprintf("Invalid value for '--source': %s is not a valid SourceInfo", pyQuote(filter.Source))}
			}
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			return a.showPythonEnv(cmd.Context(), filter, *f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&filter.Name, "name", "", "only the package of this `NAME`")
	flags.StringVar(&filter.Source, "source", "", "only packages from `SOURCE`: pypi or scratch")
	return cmd
}

func (a *app) showPythonEnv(ctx context.Context, filter blueapi.PackageFilter, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	env, err := c.PythonEnvironment(ctx, filter)
	if err != nil {
		return a.failed(ctx, c, "", err)
	}
	return a.ui.result(f.pythonEnv(env))
}

func (f format) pythonEnv(e blueapi.PythonEnvironment) string {
	if f == jsonText {
		list := make([]any, len(e.Packages))
		for i, p := range e.Packages {
			list[i] = pyDict{
				{"name", p.Name},
				{"version", p.Version},
				{"location", p.Location},
				{"is_dirty", p.IsDirty},
				{"source", p.Source},
			}
		}
		return dumps(pyDict{{"installed_packages", list}, {"scratch_enabled", e.ScratchEnabled}}, 0) + "\n"
	}
	var b strings.Builder
	status := "disabled"
	if e.ScratchEnabled {
		status = "enabled"
	}
	fmt.Fprintf(&b, "Scratch Status: %s\n", status)
	switch {
	case len(e.Packages) == 0:
		b.WriteString("No scratch packages found\n") // whatever was asked for
	case f == full:
		b.WriteString("Installed Packages:\n")
	}
	for _, p := range e.Packages {
		if f == full {
			fmt.Fprintf(&b, "- %s\nVersion: %s\nLocation: %s\nSource: %s\nDirty: %s\n",
				p.Name, p.Version, p.Location, p.Source, pyRepr(p.IsDirty))
			continue
		}
		fmt.Fprintf(&b, "- %s @ (%s)", p.Name, p.Version)
		if p.IsDirty {
			b.WriteString(" (Dirty)")
		}
		if p.Source == blueapi.SourceScratch {
			b.WriteString(" (Scratch)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}
