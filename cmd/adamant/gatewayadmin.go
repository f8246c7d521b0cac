package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/adamant-go/adamant/gateway"
)

// drainPause is how often it is looked whether all callers have gone.
const drainPause = 50 * time.Millisecond

// adminHandler serves the state of the gateway.
func (p *gatewayProcess) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", p.metrics.handler(p.log.log))
	mux.HandleFunc("GET /-/status", func(w http.ResponseWriter, _ *http.Request) { p.writeStatus(w) })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) { p.writeReady(w) })
	mux.HandleFunc("GET /-/live", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "live") })
	mux.HandleFunc("POST /-/drain", p.serveDrain)
	return p.guardAdmin(mux)
}

// guardAdmin keeps web pages away: one that a browser on this machine shows could ask
// here in its user's place, under a name of its own that it has made lead here. What
// changes something is for this machine alone.
func (p *gatewayProcess) guardAdmin(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local := strings.HasPrefix(p.admin.where.Address, "unix:") || isLocalHost(r.Host)
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" && !read:
			http.Error(w, "not for web pages", http.StatusForbidden)
		case !local && (!read || !p.plan.Expose):
			http.Error(w, "the Host header names another machine", http.StatusForbidden)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// isLocalHost reports whether a Host header names this machine.
func isLocalHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// statuses are those of the gateways, in the order of the configuration.
func (p *gatewayProcess) statuses() []gateway.Status {
	all := []gateway.Status{}
	for _, f := range p.fronts {
		all = append(all, f.gateway.Status())
	}
	return all
}

func (p *gatewayProcess) writeStatus(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(map[string]any{"upstreams": p.statuses()}) // or whoever asked has gone
}

// writeReady says whether callers are taken. They are while a server is away: that is
// when they need the gateway.
func (p *gatewayProcess) writeReady(w http.ResponseWriter) {
	status, text := http.StatusOK, ""
	for _, s := range p.statuses() {
		switch {
		case s.Draining || p.ending.Load():
			status = http.StatusServiceUnavailable
			text += s.Upstream + " draining\n"
		case !s.Down.IsZero():
			text += fmt.Sprintf("%s ready; the server is away since %s: %s\n", s.Upstream, s.Down.Format(time.RFC3339), s.Cause)
		case s.Reloading:
			text += s.Upstream + " ready; callers wait for the environment to be reloaded\n"
		default:
			text += s.Upstream + " ready\n"
		}
	}
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, text)
}

// serveDrain takes no more callers, and answers when all have gone: it is what a
// container runs before it is ended. The process goes on.
func (p *gatewayProcess) serveDrain(w http.ResponseWriter, r *http.Request) {
	for _, f := range p.fronts {
		f.gateway.Drain()
	}
	limit := time.NewTimer(p.plan.Timeouts.Drain)
	defer limit.Stop()
	look := time.NewTicker(drainPause)
	defer look.Stop()
	for {
		left := p.callersLeft()
		if left == 0 {
			_, _ = fmt.Fprintln(w, "empty")
			return
		}
		select {
		case <-look.C:
		case <-limit.C:
			w.WriteHeader(http.StatusGatewayTimeout)
			_, _ = fmt.Fprintf(w, "%d callers are left after %v\n", left, p.plan.Timeouts.Drain)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// callersLeft is how many callers are being served.
func (p *gatewayProcess) callersLeft() int {
	left := 0
	for _, s := range p.statuses() {
		left += s.Callers + s.Sessions
	}
	return left
}
