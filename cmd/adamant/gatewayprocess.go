package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/config"
	"github.com/adamant-go/adamant/internal/journal"
	"github.com/adamant-go/adamant/retry"
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
	metrics *gatewayMetrics
	admin   adminFront
	certs   []*certificate
	ended   chan error // of a listener that has failed
	ending  atomic.Bool
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

// adminFront is the listener for who looks after the gateway; there may be none.
type adminFront struct {
	server *http.Server
	http   net.Listener
	where  config.Listener
}

// orNoJournal is advice for who starts a gateway, which exec does in its user's place.
const orNoJournal = ", or add --no-journal"

// open opens everything, or nothing.
func (p *gatewayProcess) open(ctx context.Context) (err error) {
	if p.log, err = p.app.openGatewayLog(p.plan); err != nil {
		return err
	}
	if !p.plan.NoJournal {
		if p.journal, err = p.app.useJournal(ctx, journal.Open); err != nil {
			return fmt.Errorf("nothing is served: the journal, without which a crash could lose a run, cannot be kept:\n    %s%s", journalTrouble(err), orNoJournal)
		}
	}
	p.ended = make(chan error, 2*len(p.plan.Upstreams)+1)
	p.metrics = newGatewayMetrics()
	for _, u := range p.plan.Upstreams {
		if err := p.openFront(ctx, u); err != nil {
			return err
		}
	}
	p.admin.where = p.plan.Admin
	if p.plan.Admin.Address == "" {
		return nil
	}
	if p.admin.http, err = p.listen(ctx, p.plan.Admin); err != nil {
		return err
	}
	p.admin.server, err = p.newServer(p.plan.Admin, p.adminHandler())
	return err
}

func (p *gatewayProcess) openFront(ctx context.Context, u config.Upstream) (err error) {
	g := &gateway.Gateway{
		Upstream: u.URL, Wait: p.plan.Timeouts.Wait, Aliases: u.Alias == "on",
		MaxWaiting: p.plan.Limits.Waiting, MaxBody: p.plan.Limits.Body, AbortOnLoss: u.AbortOnLoss,
		StompLogin: u.Stomp.Login, StompPasscode: u.Stomp.Passcode,
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
		g.Journal, g.AliasStore, g.ReloadStore, g.StartOf = f.kept, f.kept, f.kept, f.kept.startOf
		if g.Unsettled, err = f.kept.unsettled(ctx); err != nil {
			return fmt.Errorf("the journal: %s", journalTrouble(err))
		}
		if g.Begun, err = f.kept.begun(ctx); err != nil {
			return fmt.Errorf("the journal: %s", journalTrouble(err))
		}
	}
	server := redacted(u.URL)
	g.Log = func(r gateway.Record) {
		p.log.record(server, r)
		p.metrics.record(server, r)
	}
	outages := &outageWatch{gateway: g, tell: p.log.write}
	g.Trace = retry.JoinTraces(p.metrics.trace(server), outages.trace(), p.app.callTrace(nil, u.URL))
	if cause := g.Status().Cause; cause != "" { // nothing was asked yet: it was not set up
		return errors.New(cause)
	}
	p.metrics.observe(server, g)
	if u.Stomp.Address != "" {
		if f.stomp, err = p.listen(ctx, u.Stomp); err != nil {
			return err
		}
		if u.Stomp.TLS.Cert != "" {
			cert, err := newCertificate(u.Stomp.TLS)
			if err != nil {
				return err
			}
			p.certs = append(p.certs, cert)
			f.stomp = tls.NewListener(f.stomp, cert.serverTLS())
		}
	}
	if f.http, err = p.listen(ctx, u.HTTP); err != nil {
		return err
	}
	f.server, err = p.newServer(u.HTTP, p.app.traceCallers(g))
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
	if p.admin.http != nil {
		fmt.Fprintf(&b, "admin %s\n", addressText(p.admin.where, p.admin.http))
	}
	return b.String()
}

// serve serves until the context ends, or a listener fails.
func (p *gatewayProcess) serve(ctx context.Context) error {
	for _, f := range p.fronts {
		p.goServe(f.server, f.http, f.secure)
		if f.stomp != nil {
			p.serveStomp(f)
		}
	}
	if p.admin.http != nil {
		p.goServe(p.admin.server, p.admin.http, p.admin.where.TLS.Cert != "")
	}
	notifySystemd(daemon.SdNotifyReady, p.summary())
	watching, stop := context.WithCancel(ctx)
	defer stop()
	p.serving.Go(func() { watchdog(watching, p.summary) })
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

// serveStomp serves the events of a server's broker to callers.
func (p *gatewayProcess) serveStomp(f *gatewayFront) {
	p.serving.Go(func() {
		if err := f.gateway.ServeStomp(f.stomp); err != nil {
			p.ended <- err
		}
	})
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
			p.log.log.Warn("the certificate stays the old one", slog.Any("cause", err))
			continue
		}
		p.log.log.Info("the certificate was read again", slog.String("file", c.files.Cert))
	}
}

// summary is how the gateway is, in a line.
func (p *gatewayProcess) summary() string {
	all := p.statuses()
	callers, away := 0, 0
	for _, s := range all {
		callers += s.Callers
		if !s.Down.IsZero() {
			away++
		}
	}
	return fmt.Sprintf("%d callers; of %d servers, %d away", callers, len(all), away)
}

// drain takes no more callers, and serves those that are there. The admin listener
// stays until the end, for whoever wants to see that.
func (p *gatewayProcess) drain() {
	notifySystemd(daemon.SdNotifyStopping, "draining")
	ctx, cancel := context.WithTimeout(context.Background(), p.plan.Timeouts.Drain)
	defer cancel()
	var all sync.WaitGroup
	p.ending.Store(true)
	for _, f := range p.fronts {
		all.Go(func() {
			// Whose connection was taken is served, and its connection is closed then:
			// who is turned away on the last moment would only see a failure.
			err := f.server.Shutdown(ctx)
			f.gateway.Drain() // which leaves sessions that have a plan, and ends the others
			if err == nil {
				err = p.awaitSessions(ctx, f.gateway)
			}
			_ = f.gateway.Close()
			if err == nil {
				return
			}
			p.log.log.Warn("callers are left without what they wait for")
			last, cancel := context.WithTimeout(context.Background(), closeLimit)
			defer cancel()
			_ = f.server.Shutdown(last)
			_ = f.server.Close()
		})
	}
	all.Wait()
	if p.admin.server != nil {
		_ = p.admin.server.Close()
	}
}

// awaitSessions waits until no WebSocket is open: net/http's server does not.
func (p *gatewayProcess) awaitSessions(ctx context.Context, g *gateway.Gateway) error {
	look := time.NewTicker(drainPause)
	defer look.Stop()
	for g.Status().Sessions > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
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
		if f.stomp != nil {
			_ = f.stomp.Close()
		}
		_ = f.gateway.Close()
		f.kept.close()
	}
	if p.admin.server != nil {
		_ = p.admin.server.Close()
	}
	if p.admin.http != nil {
		_ = p.admin.http.Close()
	}
	p.serving.Wait()
	if p.journal != nil {
		_ = p.journal.Close() // all that was recorded is on the disk
	}
	p.log.close()
}
