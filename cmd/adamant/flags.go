package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// fromEnvironment gives options that the command line left out the values of
// their variables: BLUEAPI, the commands and the option, as click names them.
// An empty variable counts as unset.
func fromEnvironment(cmd *cobra.Command) error {
	var chain []*cobra.Command
	for c := cmd; c != nil; c = c.Parent() {
		chain = append(chain, c)
	}
	names := []string{"BLUEAPI"}
	for i, c := range slices.Backward(chain) {
		if i < len(chain)-1 {
			names = append(names, variableName(c.Name()))
		}
		prefix := strings.Join(names, "_") + "_"
		var err error
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if err == nil && !given(f) {
				err = setFromEnvironment(c, f, prefix)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// variableKey marks the flags whose variable has another name than theirs.
// Names that begin with BLUEAPI_ are whole.
const variableKey = "variable"

// setByKey marks the flags that have the value of a variable, and names it.
const setByKey = "set by"

// setBy is the variable that an option has its value of; "" if it was given.
func setBy(f *pflag.Flag) string { return strings.Join(f.Annotations[setByKey], "") }

func rename(flags *pflag.FlagSet, flag string, variables ...string) {
	flags.Lookup(flag).Annotations = map[string][]string{variableKey: variables}
}

func setFromEnvironment(c *cobra.Command, f *pflag.Flag, prefix string) error {
	names := f.Annotations[variableKey]
	if names == nil {
		names = []string{variableName(f.Name)}
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "BLUEAPI_") {
			name = prefix + name
		}
		text := os.Getenv(name)
		if text == "" {
			continue
		}
		f.Changed = true
		if f.Annotations == nil {
			f.Annotations = make(map[string][]string)
		}
		f.Annotations[setByKey] = []string{name}
		texts := []string{text}
		if _, ok := f.Value.(pflag.SliceValue); ok {
			texts = strings.Fields(text)
		}
		for _, text := range texts {
			if err := f.Value.Set(text); err != nil {
				return usageError{c, fmt.Sprintf("Invalid value for %s: %v. (From %s)", flagNames(f), err, name)}
			}
		}
		return nil
	}
	return nil
}

func variableName(s string) string {
	return strings.ToUpper(strings.ReplaceAll(s, "-", "_"))
}

func given(f *pflag.Flag) bool {
	if t, ok := f.Value.(interface{ given() bool }); ok {
		return t.given()
	}
	return f.Changed
}

// toggle is a flag without a value, one of several that set the same target.
// The zero T means that none was given.
type toggle[T comparable] struct {
	target *T
	on     T
	parse  func(string) (T, error) // of the variable; nil if there is none
}

// addToggle adds a toggle under one or more names.
func addToggle[T comparable](flags *pflag.FlagSet, t *toggle[T], name, short, usage string, more ...string) {
	for i, name := range append([]string{name}, more...) {
		if i > 0 {
			t = &toggle[T]{target: t.target, on: t.on}
			usage, short = "the same", ""
		}
		flags.VarPF(t, name, short, usage).NoOptDefVal = "true"
	}
}

// Set is called with "true" for the bare flag.
func (t *toggle[T]) Set(s string) error {
	v, err := t.on, error(nil)
	switch {
	case s == "true":
	case t.parse == nil:
		err = errors.New("the option does not take a value")
	default:
		v, err = t.parse(s)
	}
	*t.target = v
	return err
}

func (t *toggle[T]) String() string { return "" }
func (t *toggle[T]) Type() string   { return "bool" }
func (t *toggle[T]) given() bool {
	var zero T
	return *t.target != zero
}

// either reads a truth value in click's spellings.
func either[T any](yes, no T) func(string) (T, error) {
	return func(s string) (T, error) {
		switch strings.ToLower(s) {
		case "1", "t", "true", "y", "yes", "on":
			return yes, nil
		case "0", "f", "false", "n", "no", "off":
			return no, nil
		}
		return *new(T), fmt.Errorf("'%s' is not a valid boolean", s)
	}
}

func levelOf(s string) (level, error) {
	switch s {
	case "DEBUG":
		return verbose, nil
	case "ERROR":
		return quiet, nil
	}
	return normal, nil // as blueapi, which takes only what its flags stand for
}

// float is click's FLOAT.
type float float64

func (f *float) Set(s string) error {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return fmt.Errorf("'%s' is not a valid float", s)
	}
	*f = float(v)
	return nil
}
func (f *float) String() string { return "" }
func (f *float) Type() string   { return "FLOAT" }

// taskOption is the id of a task. A script whose variable is empty is not to do to any task
// what it meant for one.
type taskOption string

func (o *taskOption) Set(s string) error {
	if s == "" {
		return errors.New("it is empty")
	}
	*o = taskOption(s)
	return nil
}
func (o *taskOption) String() string { return "" }
func (o *taskOption) Type() string   { return "ID" }

// duration is a time such as 90s or 10m.
type duration time.Duration

func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("'%s' is not a duration such as 90s or 10m", s)
	}
	*d = duration(v)
	return nil
}
func (d *duration) String() string { return "" }
func (d *duration) Type() string   { return "DURATION" }
