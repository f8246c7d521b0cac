package gateway

import (
	"context"
	"fmt"
	"time"
)

const (
	// reloadLimit is how long a server may show its old environment after it was asked to
	// reload, as for blueapi's client.
	reloadLimit = 75 * time.Second
	// reloadPoll is the time after which it is looked again which environment it has.
	reloadPoll = 500 * time.Millisecond
)

// Reload is a reload of a server's environment, which its callers wait for.
type Reload struct {
	// EnvironmentID is that of the environment before.
	EnvironmentID string
	// At is when the request was about to be sent.
	At time.Time
}

// ReloadStore keeps the latest reload beyond the life of a gateway: what callers ask while
// the server stops its old worker can make it hang for good (1.21.1), and a gateway that
// is killed then has the next one hold them back.
type ReloadStore interface {
	// KeepReload keeps a reload in the place of the one before. It must be durable when
	// KeepReload returns.
	KeepReload(ctx context.Context, r Reload) error
	// Reload returns the one that was kept last; the zero Reload if none was.
	Reload(ctx context.Context) (Reload, error)
}

// keepReload tells the gateway that comes after this one. If that is not possible the
// environment is reloaded all the same: it protects from one chance in many.
func (g *Gateway) keepReload(ctx context.Context, env string, at time.Time) {
	if g.ReloadStore != nil {
		_ = g.ReloadStore.KeepReload(ctx, Reload{env, at})
	}
}

// resumeReload holds callers back for a reload that another gateway has asked for, and of
// which it is not known whether it is over.
func (g *Gateway) resumeReload() error {
	if g.ReloadStore == nil {
		return nil
	}
	r, err := g.ReloadStore.Reload(g.life)
	if err != nil {
		return fmt.Errorf("gateway: reading which reload is under way: %w", err)
	}
	if r.EnvironmentID == "" || time.Since(r.At) > reloadLimit {
		return nil
	}
	g.hold.begin()
	await := g.client.ResumeReload(r.EnvironmentID, r.At)
	if !g.goOn(func() {
		defer g.hold.end()
		for g.life.Err() == nil && await(g.life) != nil {
			sleep(g.life, reloadPoll)
		}
	}) {
		g.hold.end()
	}
	return nil
}
