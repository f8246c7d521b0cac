package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is a wrong use of a command, worded as click words it.
type usageError struct {
	cmd  *cobra.Command // nil: without a line of usage
	text string
}

func (e usageError) Error() string {
	if e.cmd == nil {
		return "Error: " + e.text
	}
	return fmt.Sprintf("Usage: %s\nTry '%s --help' for help.\n\nError: %s",
		e.cmd.UseLine(), e.cmd.CommandPath(), e.text)
}

// asUsageError tells whether an error is a wrong use, and words it if so.
func asUsageError(cmd *cobra.Command, args []string, err error) (usageError, bool) {
	if usage, ok := errors.AsType[usageError](err); ok {
		return usage, true
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		option := "--" + e.GetSpecifiedName()
		if e.GetSpecifiedShortnames() != "" {
			option = "-" + e.GetSpecifiedName()
		}
		return usageError{text: fmt.Sprintf("Option '%s' requires an argument.", option)}, true
	}
	cmd = culprit(cmd.Root(), args)
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		option := "--" + e.GetSpecifiedName()
		if e.GetSpecifiedShortnames() != "" {
			option = "-" + e.GetSpecifiedName()
		}
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
		return usageError{cmd, fmt.Sprintf("No such option '%s'.%s", option, didYouMean(option, known))}, true
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return usageError{cmd, fmt.Sprintf("Invalid value for %s: %v.", flagNames(e.GetFlag()), e.Unwrap())}, true
	}
	if e, ok := errors.AsType[*pflag.InvalidSyntaxError](err); ok {
		return usageError{cmd, fmt.Sprintf("No such option '%s'.", e.GetSpecifiedFlag())}, true
	}
	return usageError{}, false
}

// culprit finds the command whose options are wrong: cobra names the root when
// it is those of a group on the way.
func culprit(cmd *cobra.Command, args []string) *cobra.Command {
	for cmd.HasSubCommands() {
		flags := cmd.Flags()
		flags.SetInterspersed(false)
		if cmd.ParseFlags(args) != nil || flags.NArg() == 0 {
			break
		}
		name := flags.Arg(0)
		i := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
		if i < 0 {
			break
		}
		cmd, args = cmd.Commands()[i], flags.Args()[1:]
	}
	return cmd
}

func noSuchCommand(cmd *cobra.Command, name string) error {
	var known []string
	for _, c := range cmd.Commands() {
		known = append(known, c.Name())
	}
	return usageError{cmd, fmt.Sprintf("No such command '%s'.%s", name, didYouMean(name, known))}
}

// atMost refuses more arguments than a command takes.
func atMost(cmd *cobra.Command, args []string, n int) error {
	switch extra := len(args) - n; {
	case extra <= 0:
		return nil
	case extra == 1:
		return usageError{cmd, fmt.Sprintf("Got unexpected extra argument (%s)", args[n])}
	default:
		return usageError{cmd, fmt.Sprintf("Got unexpected extra arguments (%s)", strings.Join(args[n:], " "))}
	}
}

// oneAtMost returns the argument of a command that takes one at most, "" if there is none.
// One that is empty, as a script's variable may be, is not taken for none.
func oneAtMost(cmd *cobra.Command, args []string, name string) (string, error) {
	if err := atMost(cmd, args, 1); err != nil || len(args) == 0 {
		return "", err
	}
	return args[0], notEmpty(cmd, args[0], "["+name+"]")
}

// notEmpty refuses an argument that is empty.
func notEmpty(cmd *cobra.Command, arg, name string) error {
	if arg == "" {
		return usageError{cmd, fmt.Sprintf("Invalid value for '%s': it is empty.", name)}
	}
	return nil
}

// flagNames is how click names an option: '-o' / '--output'.
func flagNames(f *pflag.Flag) string {
	if f.Shorthand == "" {
		return fmt.Sprintf("'--%s'", f.Name)
	}
	return fmt.Sprintf("'-%s' / '--%s'", f.Shorthand, f.Name)
}

func didYouMean(name string, known []string) string {
	for _, k := range known {
		if distance(name, k) <= 2 && len(k) > 3 {
			return fmt.Sprintf(" Did you mean '%s'?", k)
		}
	}
	return ""
}

// distance is the number of characters to insert, delete, replace or swap with
// their neighbour to make b of a.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			replace := last[j]
			if a[i] != b[j] {
				replace++
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, replace)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
