package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func showHelp(cmd *cobra.Command, _ []string) {
	_, _ = io.WriteString(cmd.OutOrStdout(), helpText(cmd)+"\n")
}

// helpText is the help of a command, laid out as click lays it out.
func helpText(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n\n", cmd.UseLine())
	about := cmd.Long
	if about == "" {
		about = cmd.Short + "."
	}
	b.WriteString(indentText(about, "  "))
	fmt.Fprintf(&b, "\n\nOptions:\n%s", cmd.LocalFlags().FlagUsages())
	if inherited := cmd.InheritedFlags().FlagUsages(); inherited != "" {
		fmt.Fprintf(&b, "\nOptions of every command:\n%s", inherited)
	}
	for _, group := range append(cmd.Groups(), &cobra.Group{Title: "Commands:"}) {
		title := "\n" + group.Title + "\n"
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && c.GroupID == group.ID {
				fmt.Fprintf(&b, "%s  %-14s %s\n", title, c.Name(), c.Short)
				title = ""
			}
		}
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\n%s", cmd.Example)
	}
	return strings.TrimRight(b.String(), "\n")
}
