package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completeRun suggests to a shell the names of plans, of a plan's parameters, and
// of devices. It says nothing of what goes wrong, and takes no longer than people
// wait for a completion.
func (a *app) completeRun(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	const nothing, noSpace = cobra.ShellCompDirectiveNoFileComp, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	if fromEnvironment(cmd) != nil {
		return nil, nothing
	}
	a.level = quiet
	c, err := a.client()
	if err != nil {
		return nil, nothing
	}
	defer c.Close()
	c.Trace = nil

	var words []string
	if len(args) == 0 {
		plans, _ := c.Plans(ctx)
		for _, p := range plans {
			words = append(words, p.Name)
		}
		return withPrefix(words, word), nothing
	}
	plan, err := c.Plan(ctx, args[0])
	if err != nil {
		return nil, nothing
	}
	s := schemaOf(plan.Schema)
	name, text, assigned := strings.Cut(word, "=")
	if !assigned {
		properties, _ := s.get("properties").(pyDict)
		for _, property := range properties {
			words = append(words, property.key+"=")
		}
		return withPrefix(words, word), noSpace
	}
	before := word[:len(name)+1+strings.LastIndex(text, ",")+1]
	for _, value := range s.property(name).words() {
		words = append(words, before+value)
	}
	return withPrefix(words, word), nothing
}

func withPrefix(words []string, prefix string) (found []string) {
	for _, w := range words {
		if strings.HasPrefix(w, prefix) {
			found = append(found, w)
		}
	}
	return found
}

// words are the words that a parameter, or an item of its list, may be.
func (s schema) words() []string {
	seen := make(map[string]bool)
	var all []string
	types := s.alternatives()
	if list, ok := s.list(); ok {
		types = append(types, list.items(0).alternatives()...)
	}
	for _, t := range types {
		for _, w := range enumWords(t) {
			if !seen[w] {
				seen[w] = true
				all = append(all, w)
			}
		}
	}
	return all
}
