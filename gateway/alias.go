package gateway

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// Alias is a task that took the place of another, whose start was lost. Callers see it
// under the other's id.
type Alias struct {
	// Shown is the id that callers know; Real, that of the task that the server has.
	Shown, Real string
	// EnvironmentID is that of the environment that the task was made in. An alias
	// says nothing in any other.
	EnvironmentID string
}

// AliasStore keeps aliases beyond the life of a gateway.
type AliasStore interface {
	// KeepAlias keeps one, in place of one of the same Shown. It must be durable
	// when KeepAlias returns.
	KeepAlias(ctx context.Context, a Alias) error
	// Aliases returns those that are kept.
	Aliases(ctx context.Context) ([]Alias, error)
}

// aliases are the tasks that took the place of others, in the environment that was
// seen last. The zero aliases is empty.
type aliases struct {
	mu    sync.RWMutex
	store AliasStore
	env   string    // "" before one was seen
	at    time.Time // when it was asked for
	known []Alias
}

// load takes over what another gateway has kept.
func (a *aliases) load(ctx context.Context, store AliasStore) error {
	a.store = store
	if store == nil {
		return nil
	}
	known, err := store.Aliases(ctx)
	if err != nil {
		return fmt.Errorf("gateway: reading the aliases: %w", err)
	}
	a.known = known
	return nil
}

// successor looks for the task that took the place of one that is gone: another gateway
// with the same store may have put it there since. A store that fails has none.
func (a *aliases) successor(ctx context.Context, gone string) (id string, found bool) {
	if a.store == nil {
		return "", false
	}
	kept, err := a.store.Aliases(ctx)
	if err != nil {
		return "", false
	}
	shown := a.shown(gone) // which was put in the place of another, perhaps
	a.mu.Lock()
	for _, alias := range kept {
		if a.env == "" || alias.EnvironmentID == a.env {
			a.put(alias)
		}
	}
	a.mu.Unlock()
	id = a.real(shown)
	return id, id != gone
}

// put has an alias be known. The mutex is held.
func (a *aliases) put(alias Alias) {
	for i := range a.known {
		if a.known[i].Shown == alias.Shown {
			a.known[i] = alias
			return
		}
	}
	a.known = append(a.known, alias)
}

// add has a task take the place of another, for good: the caller's id never means
// anything else again.
func (a *aliases) add(ctx context.Context, alias Alias) error {
	if a.store != nil {
		if err := a.store.KeepAlias(ctx, alias); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put(alias)
	return nil
}

// seen forgets the aliases of other environments than the one that the server had when
// it was asked at a time. If that is another than before, it reports when the server was
// last known to have that one.
func (a *aliases) seen(env string, at time.Time) (before time.Time, changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at.Before(a.at) { // an answer that was overtaken
		return time.Time{}, false
	}
	before, changed = a.at, a.env != "" && a.env != env
	a.env, a.at = env, at
	var known []Alias
	for _, alias := range a.known {
		if alias.EnvironmentID == env {
			known = append(known, alias)
		}
	}
	a.known = known
	return before, changed
}

// real is the id of the task at the server that a caller means.
func (a *aliases) real(id string) string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for i := range a.known {
		if a.known[i].Shown == id {
			return a.known[i].Real
		}
	}
	return id
}

// shown is the id by which callers know a task.
func (a *aliases) shown(id string) string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for i := range a.known {
		if a.known[i].Real == id {
			return a.known[i].Shown
		}
	}
	return id
}

func (a *aliases) count() int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.known)
}

// show puts the ids that callers know into an answer. Ids are random and stand for
// nothing else, so that they are replaced wherever they are.
func (a *aliases) show(r reply) reply {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for i := range a.known {
		r.body = bytes.ReplaceAll(r.body, []byte(a.known[i].Real), []byte(a.known[i].Shown))
	}
	return r
}

// text is show for a text.
func (a *aliases) text(s string) string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for i := range a.known {
		s = strings.ReplaceAll(s, a.known[i].Real, a.known[i].Shown)
	}
	return s
}

// replace makes another task of the same content as one that was withdrawn, and has it
// take its place; the start that was of the first is of both then.
func (g *Gateway) replace(ctx context.Context, old, shown string, content blueapi.TaskRequest) (id string, err error) {
	id, err = g.client.SubmitTask(ctx, content)
	if err != nil {
		return "", err
	}
	g.starts.goOnWith(old, id) // before anybody can ask for it
	env, err := g.client.Environment(ctx)
	if err != nil {
		return "", err
	}
	return id, g.aliases.add(ctx, Alias{Shown: shown, Real: id, EnvironmentID: env.ID})
}
