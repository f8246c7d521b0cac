package main

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/config"
)

// gatewayPlan is what a gateway is to do: its file, its options and the defaults.
type gatewayPlan struct{ config.Gateway }

const (
	defaultGatewayListen = "127.0.0.1:8000"
	// defaultDrain is short of the 90 s after which systemd kills.
	defaultDrain = 30 * time.Second
	// defaultHeaderTimeout and defaultBodyTimeout are for callers that are slow, or mean to be.
	defaultHeaderTimeout = 10 * time.Second
	defaultBodyTimeout   = time.Minute
	// defaultIdle is longer than a poller's pause.
	defaultIdle = 2 * time.Minute
	// defaultHeaderBytes is what uvicorn, blueapi's web server, takes.
	defaultHeaderBytes = 64 << 10
	// defaultConnections is four times as many as may wait: callers keep some open.
	defaultConnections = 4000
)

// planGateway merges the options, the file, and what is given before the command.
func (a *app) planGateway(cmd *cobra.Command, o gatewayOptions) (*gatewayPlan, error) {
	var p gatewayPlan
	if o.config != "" {
		var err error
		if p.Gateway, err = config.LoadGateway(o.config); err != nil {
			return nil, fmt.Errorf("--config: %w", err)
		}
		a.warnOfSecrets(o.config, p.Secret)
	}
	if err := p.take(cmd, o); err != nil {
		return nil, err
	}
	if err := p.findServer(a); err != nil {
		return nil, err
	}
	p.fill(a)
	return &p, p.check(cmd)
}

// warnOfSecrets warns of a file that others can read.
func (a *app) warnOfSecrets(path string, secret bool) {
	info, err := os.Stat(path)
	if secret && err == nil && info.Mode().Perm()&0o077 != 0 {
		a.ui.note("warning: %s holds a password and others can read it: chmod go= %s", path, path)
	}
}

// take lays the options over the file.
func (p *gatewayPlan) take(cmd *cobra.Command, o gatewayOptions) error {
	if len(p.Upstreams) == 0 {
		p.Upstreams = []config.Upstream{{}}
	}
	if len(p.Upstreams) > 1 {
		for _, flag := range []string{"upstream", "listen", "stomp-upstream", "stomp-listen", "alias", "abort-on-loss"} {
			if cmd.Flag(flag).Changed {
				return usageError{cmd, fmt.Sprintf("--%s says nothing of which server it is for, of the %d in the file.", flag, len(p.Upstreams))}
			}
		}
	}
	u := &p.Upstreams[0]
	set(&u.URL, o.upstream)
	if o.stompUpstream != "" {
		b, err := url.Parse(o.stompUpstream)
		if err != nil || b.Scheme != "tcp" || b.Hostname() == "" || b.Port() == "" {
			return usageError{cmd, "Invalid value for '--stomp-upstream': it is not the URL of a broker; write tcp://HOST:PORT."}
		}
		u.Broker = config.Broker{URL: "tcp://" + b.Host, Login: b.User.Username()}
		u.Broker.Passcode, _ = b.User.Password()
	}
	for _, l := range []struct {
		into       *config.Listener
		flag, text string
	}{{&u.HTTP, "listen", o.listen}, {&u.Stomp, "stomp-listen", o.stompListen}, {&p.Admin, "admin", o.admin}} {
		if l.text != "" {
			l.into.Address, l.into.Where = l.text, "--"+l.flag
		}
	}
	set(&u.Alias, o.alias)
	set(&p.Log, o.log)
	set(&p.Records, o.records)
	set(&p.Limits.Waiting, o.maxWaiting)
	u.AbortOnLoss = u.AbortOnLoss || o.abortOnLoss
	p.Expose = p.Expose || o.expose
	p.NoJournal = p.NoJournal || o.noJournal
	return nil
}

// set replaces a value by another that is given.
func set[T comparable](into *T, given T) {
	if given != *new(T) {
		*into = given
	}
}

// findServer takes what the file does not say from the options before the command.
func (p *gatewayPlan) findServer(a *app) error {
	u := &p.Upstreams[0]
	if a.host == "" && len(a.configs) == 0 || len(p.Upstreams) > 1 {
		return nil
	}
	c, err := a.config()
	if err != nil {
		return err
	}
	if u.URL == "" {
		u.URL = c.URL
	}
	if u.Broker.URL == "" && c.Stomp.Enabled {
		u.Broker = config.Broker{URL: c.Stomp.URL, Login: c.Stomp.Username, Passcode: c.Stomp.Password}
	}
	return nil
}

// fill puts the defaults in.
func (p *gatewayPlan) fill(a *app) {
	if len(p.Upstreams) == 1 && p.Upstreams[0].HTTP.Address == "" {
		p.Upstreams[0].HTTP.Address = defaultGatewayListen
	}
	for i := range p.Upstreams {
		u := &p.Upstreams[i]
		u.URL = serverURL(u.URL)
		if u.Alias == "" || u.Alias == "auto" {
			u.Alias = "off"
			if u.Stomp.Address != "" || u.Broker.URL == "" {
				u.Alias = "on"
			}
		}
	}
	if a.wait != 0 {
		p.Timeouts.Wait = a.wait
	}
	usual(&p.Log, "text")
	usual(&p.Timeouts.Drain, defaultDrain)
	usual(&p.Timeouts.Header, defaultHeaderTimeout)
	usual(&p.Timeouts.Body, defaultBodyTimeout)
	usual(&p.Timeouts.Idle, defaultIdle)
	usual(&p.Limits.Waiting, 1000)
	usual(&p.Limits.Body, 16<<20)
	usual(&p.Limits.Header, defaultHeaderBytes)
	usual(&p.Limits.Connections, defaultConnections)
}

// usual sets a value that nobody has set.
func usual[T comparable](v *T, usually T) {
	if *v == *new(T) {
		*v = usually
	}
}

// check refuses what cannot be, or would be open to others by mistake.
func (p *gatewayPlan) check(cmd *cobra.Command) error {
	if p.Limits.Waiting < 0 {
		return usageError{cmd, "Invalid value for '--max-waiting': it is negative."}
	}
	seen := map[string]bool{}
	for i := range p.Upstreams {
		u := &p.Upstreams[i]
		if seen[redacted(u.URL)] {
			return fmt.Errorf("upstream[%d]: %s is there already; one gateway is for all callers of a server", i, redacted(u.URL))
		}
		seen[redacted(u.URL)] = true
		if u.URL == "" {
			return usageError{cmd, "Which server? Name it by --upstream, or in a file by --config."}
		}
		if s, err := url.Parse(u.URL); err != nil || s.Scheme != "http" && s.Scheme != "https" || s.Host == "" {
			return usageError{cmd, "Invalid value for '--upstream': it is not a URL such as http://localhost:8000."}
		}
		if u.HTTP.Address == "" {
			return fmt.Errorf("upstream[%d]: listen.http is missing: where do its callers come to?", i)
		}
		if u.Stomp.Address != "" && u.Broker.URL == "" {
			return fmt.Errorf("%s: there are no events without the server's message broker: name it by --stomp-upstream, or as upstream's stomp", u.Stomp.Where)
		}
		for _, l := range []config.Listener{u.HTTP, u.Stomp} {
			if err := p.checkListener(l, false); err != nil {
				return err
			}
		}
		if isLoop(u.URL, u.HTTP.Address) {
			return fmt.Errorf("the gateway at %s would be its own server (%s): give it another address by --listen", u.HTTP.Address, u.URL)
		}
	}
	return p.checkListener(p.Admin, true)
}

func (p *gatewayPlan) checkListener(l config.Listener, admin bool) error {
	if l.Address == "" {
		return nil
	}
	err := checkListenAddress(l.Address, admin)
	if err == nil && !p.Expose && isNetwork(l.Address) {
		err = checkExposed(withHost(l.Address))
	}
	if err != nil && l.Where != "" {
		err = fmt.Errorf("%s: %w", l.Where, err)
	}
	return err
}

// isLoop reports whether a server is where its gateway would be.
func isLoop(server, listen string) bool {
	u, err := url.Parse(server)
	host, port, failed := net.SplitHostPort(listen)
	if err != nil || failed != nil || port == "0" {
		return false
	}
	if at := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]); port != at {
		return false
	}
	local := func(host string) bool {
		ip := net.ParseIP(host)
		return host == "" || host == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
	}
	return host == u.Hostname() || local(host) && local(u.Hostname())
}

// broker is the message broker of a server; nil if it has none.
func brokerOfUpstream(u config.Upstream) (*blueapi.Broker, error) {
	if u.Broker.URL == "" {
		return nil, nil
	}
	b, err := brokerOf(config.Stomp{URL: u.Broker.URL, Username: u.Broker.Login, Password: u.Broker.Passcode})
	if err != nil {
		return nil, err
	}
	if u.Broker.Secure {
		if b.TLS, err = clientTLS(u.Broker.TLS); err != nil {
			return nil, fmt.Errorf("stomp.tls: %w", err)
		}
		host, _, _ := net.SplitHostPort(b.Address) // which brokerOf has made
		b.TLS.ServerName = host
	}
	return b, nil
}

// text is the plan for its user, without passwords.
func (p *gatewayPlan) text() string {
	var b strings.Builder
	for _, u := range p.Upstreams {
		fmt.Fprintf(&b, "upstream %s%s\n", redacted(u.URL), u.TLS)
		if u.Broker.URL != "" {
			fmt.Fprintf(&b, "  stomp upstream %s%s%s\n", u.Broker.URL, loginText(u.Broker.Login), u.Broker.TLS)
		}
		fmt.Fprintf(&b, "  http at %s%s\n", u.HTTP.Address, u.HTTP.TLS)
		if u.Stomp.Address != "" {
			fmt.Fprintf(&b, "  stomp at %s%s%s\n", u.Stomp.Address, loginText(u.Stomp.Login), u.Stomp.TLS)
		}
		fmt.Fprintf(&b, "  alias %s, abort on loss %v\n", u.Alias, u.AbortOnLoss)
	}
	if p.Admin.Address != "" {
		fmt.Fprintf(&b, "admin at %s%s\n", p.Admin.Address, p.Admin.TLS)
	}
	wait := "as long as five attempts take"
	if p.Timeouts.Wait > 0 {
		wait = p.Timeouts.Wait.String()
	}
	fmt.Fprintf(&b, "expose %v, journal %v, log %s\n", p.Expose, !p.NoJournal, p.Log)
	if p.Records != "" {
		fmt.Fprintf(&b, "records to %s\n", p.Records)
	}
	fmt.Fprintf(&b, "timeouts: wait %s, header %v, body %v, idle %v, drain %v\n", wait,
		p.Timeouts.Header, p.Timeouts.Body, p.Timeouts.Idle, p.Timeouts.Drain)
	fmt.Fprintf(&b, "limits: waiting %d, connections %d, body %d, header %d bytes\n",
		p.Limits.Waiting, p.Limits.Connections, p.Limits.Body, p.Limits.Header)
	return b.String()
}

func loginText(login string) string {
	if login == "" {
		return ""
	}
	return " as " + login
}

// redacted is a URL without user and password.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "?"
	}
	u.User = nil
	return u.String()
}
