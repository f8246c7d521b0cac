package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/config"
	"github.com/adamant-go/adamant/internal/journal"
)

// closeLimit is how long callers have to be told what is known when the time to drain is
// over.
const closeLimit = 2 * time.Second

// gatewayProcess is a gateway with all that it has open.
type gatewayProcess struct {
	app     *app
	plan    *gatewayPlan
	log     *gatewayLog
	journal *journal.Journal // nil: nothing is kept
	fronts  []*gatewayFront
	certs   []*certificate
	ended   chan error // of a listener that has failed
	serving sync.WaitGroup
}

// gatewayFront is what stands in front of one server.
type gatewayFront struct {
	gateway *gateway.Gateway
	server  *http.Server
	http    net.Listener
	secure  bool
	stomp   net.Listener // nil: there is none
	kept    *gatewayJournal
	where   config.Upstream
}

// open opens everything, or nothing.
func (p *gatewayProcess) open(ctx context.Context) (err error) {
	if p.log, err = p.app.openGatewayLog(p.plan); err != nil {
		return err
	}
	if !p.plan.NoJournal {
		if p.journal, err = p.app.useJournal(ctx, journal.Open); err != nil {
			return fmt.Errorf("nothing is served: the journal, without which a crash could lose a run, cannot be kept:\n    %s, or add --no-journal", journalTrouble(err))
		}
	}
	p.ended = make(chan error, 2*len(p.plan.Upstreams)+1)
	for _, u := range p.plan.Upstreams {
		if err := p.openFront(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

func (p *gatewayProcess) openFront(ctx context.Context, u config.Upstream) (err error) {
	g := &gateway.Gateway{
		Upstream: u.URL, Wait: p.plan.Timeouts.Wait, Aliases: u.Alias == "on",
		MaxWaiting: p.plan.Limits.Waiting, MaxBody: p.plan.Limits.Body,
	}
	f := &gatewayFront{gateway: g, where: u}
	p.fronts = append(p.fronts, f)
	if g.Transport, err = upstreamTransport(u.TLS); err != nil {
		return err
	}
	if g.Broker, err = brokerOfUpstream(u); err != nil {
		return err
	}
	if p.journal != nil {
		if f.kept, err = keepStarts(p.journal, u.URL); err != nil {
			return fmt.Errorf("the journal: %s", journalTrouble(err))
		}
		g.Journal, g.AliasStore = f.kept, f.kept
		if g.Unsettled, err = f.kept.unsettled(ctx); err != nil {
			return fmt.Errorf("the journal: %s", journalTrouble(err))
		}
	}
	g.Log = func(r gateway.Record) { p.log.record(redacted(u.URL), r) }
	if cause := g.Status().Cause; cause != "" { // nothing was asked yet: it was not set up
		return errors.New(cause)
	}
	if f.http, err = p.listen(ctx, u.HTTP); err != nil {
		return err
	}
	f.server, err = p.newServer(u.HTTP, g)
	f.secure = u.HTTP.TLS.Cert != ""
	return err
}

func (p *gatewayProcess) listen(ctx context.Context, l config.Listener) (net.Listener, error) {
	opened, err := openListener(ctx, l, p.plan.Expose, p.plan.Limits.Connections)
	if err != nil && l.Where != "" {
		err = fmt.Errorf("%s: %w", l.Where, err)
	}
	return opened, err
}

// newServer makes the server of a listener. It limits everything but the time of an
// answer: to resume a plan is answered when that has ended.
func (p *gatewayProcess) newServer(l config.Listener, h http.Handler) (*http.Server, error) {
	s := &http.Server{
		Handler:           limitBody(h, p.plan.Timeouts.Body),
		ReadHeaderTimeout: p.plan.Timeouts.Header,
		IdleTimeout:       p.plan.Timeouts.Idle,
		MaxHeaderBytes:    p.plan.Limits.Header,
		ErrorLog:          slog.NewLogLogger(p.log.log.Handler(), slog.LevelInfo),
		Protocols:         new(http.Protocols),
	}
	s.Protocols.SetHTTP1(true) // as blueapi's own, which knows no other
	if l.TLS.Cert != "" {
		cert, err := newCertificate(l.TLS)
		if err != nil {
			return nil, err
		}
		s.TLSConfig = cert.serverTLS()
		p.certs = append(p.certs, cert)
	}
	return s, nil
}

// limitBody limits how long a caller may take to send the body of a request. What is
// read afterwards tells whether the caller is still there, and has no limit.
func limitBody(h http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			c := http.NewResponseController(w)
			_ = c.SetReadDeadline(time.Now().Add(limit))
			r.Body = &timedBody{ReadCloser: r.Body, end: sync.OnceFunc(func() { _ = c.SetReadDeadline(time.Time{}) })}
		}
		h.ServeHTTP(w, r)
	})
}

// lines says where the listeners are.
func (p *gatewayProcess) lines() string {
	var b strings.Builder
	for _, f := range p.fronts {
		fmt.Fprintf(&b, "http %s\n", f.http.Addr())
		if f.stomp != nil {
			fmt.Fprintf(&b, "stomp %s\n", f.stomp.Addr())
		}
	}
	return b.String()
}

// serve serves until the context ends, or a listener fails.
func (p *gatewayProcess) serve(ctx context.Context) error {
	for _, f := range p.fronts {
		p.goServe(f.server, f.http, f.secure)
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			p.drain()
			return nil
		case err := <-p.ended:
			p.drain()
			return err
		case <-hangups:
			p.reload()
		}
	}
}

func (p *gatewayProcess) goServe(s *http.Server, l net.Listener, secure bool) {
	p.serving.Go(func() {
		serve := s.Serve
		if secure {
			serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
		}
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.ended <- err
		}
	})
}

// reload reads the certificates again. One that cannot be read leaves the old one.
func (p *gatewayProcess) reload() {
	if len(p.certs) == 0 {
		p.log.log.Info("hangup: there are no certificates to read again, and nothing else is")
	}
	for _, c := range p.certs {
		if err := c.reload(); err != nil {
			p.log.log.Warn("the certificate stays the old one", "cause", err)
			continue
		}
		p.log.log.Info("the certificate was read again", "file", c.files.Cert)
	}
}

// drain takes no more callers, and serves those that are there.
func (p *gatewayProcess) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), p.plan.Timeouts.Drain)
	defer cancel()
	var all sync.WaitGroup
	for _, f := range p.fronts {
		f.gateway.Drain()
		all.Go(func() {
			err := f.server.Shutdown(ctx)
			_ = f.gateway.Close()
			if err == nil {
				return
			}
			p.log.log.Warn("callers are left without what they wait for", "callers", f.gateway.Status().Callers)
			last, cancel := context.WithTimeout(context.Background(), closeLimit)
			defer cancel()
			_ = f.server.Shutdown(last)
			_ = f.server.Close()
		})
	}
	all.Wait()
}

// close closes what was opened, also if not all was.
func (p *gatewayProcess) close() {
	for _, f := range p.fronts {
		if f.server != nil {
			_ = f.server.Close()
		}
		if f.http != nil {
			_ = f.http.Close()
		}
		_ = f.gateway.Close()
		f.kept.close()
	}
	p.serving.Wait()
	if p.journal != nil {
		_ = p.journal.Close() // all that was recorded is on the disk
	}
	p.log.close()
}
