package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Gateway is what the file of a gateway says. Its zero values are what the file does
// not say.
type Gateway struct {
	Upstreams []Upstream
	Admin     Listener
	// Expose allows listeners that other machines can reach.
	Expose   bool
	Timeouts Timeouts
	Limits   Limits
	// NoJournal is set by journal: false.
	NoJournal bool
	// Log is text or json.
	Log string
	// Records is the file that records of requests go to.
	Records string
	// Secret tells that the file holds a password, and not only a variable's name.
	Secret bool
}

// Upstream is a blueapi server, and where callers find it.
type Upstream struct {
	// URL has the scheme http or https.
	URL string
	TLS TLS
	// Broker is the server's message broker; its URL is empty if it has none.
	Broker Broker
	// HTTP and Stomp are where its callers come to.
	HTTP, Stomp Listener
	// Alias is on, off or auto.
	Alias string
	// AbortOnLoss has a plan aborted whose caller's connection is lost.
	AbortOnLoss bool
}

// Broker is a message broker.
type Broker struct {
	// URL has the scheme tcp.
	URL             string
	Login, Passcode string
	TLS             TLS
	// Secure tells that TLS is used.
	Secure bool
}

// Listener is an address that is listened at.
type Listener struct {
	// Address is HOST:PORT, unix:PATH or fd:N; empty means that there is none.
	Address string
	// TLS is that of the listener; without a certificate it has none.
	TLS TLS
	// Login and Passcode are what callers must present; empty means any.
	Login, Passcode string
	// Where says where the address was written: FILE:LINE.
	Where string
}

// TLS names files in PEM: the authorities by which the other side is known, and the
// certificate of this side with its key.
type TLS struct{ CA, Cert, Key string }

// Timeouts are how long things may take.
type Timeouts struct {
	// Wait is how long callers wait for a server that is away.
	Wait time.Duration
	// Header and Body are how long a caller may take to send a request, Idle is how
	// long a connection is kept open for the next one.
	Header, Body, Idle time.Duration
	// Drain is how long callers are served that are there when the gateway ends.
	Drain time.Duration
}

// Limits are how many of a thing there may be.
type Limits struct {
	// Waiting is how many callers may wait for answers; Connections is for each
	// listener; Body and Header are in bytes, of a request.
	Waiting, Connections, Body, Header int
}

const gatewayExample = "    upstream:\n      url: http://localhost:8000"

// LoadGateway reads the file of a gateway. Variables are replaced as by Load; an error
// says on which line, and what to do about it.
func LoadGateway(path string) (Gateway, error) {
	b, err := readAll(path)
	if err != nil {
		return Gateway{}, err
	}
	root, err := converter{file: path, left: maxValues, lists: true, example: gatewayExample}.parse(b)
	if err != nil {
		return Gateway{}, err
	}
	var g Gateway
	d := gatewayDecoder{gateway: &g}
	top := d.section(root, "", "admin", "expose", "journal", "limits", "log", "records", "timeouts", "upstream")
	switch up := top["upstream"]; {
	case up.kind == list && len(up.items) == 0:
		d.fail(up, "upstream names no server")
	case up.kind == list:
		for i, item := range up.items {
			g.Upstreams = append(g.Upstreams, d.upstream(item, fmt.Sprintf("upstream[%d]", i)))
		}
	case up.kind != absent:
		g.Upstreams = []Upstream{d.upstream(up, "upstream")}
	}
	g.Admin = d.listener(top["admin"], "admin", false)
	d.truth(top["expose"], "expose", &g.Expose)
	keep := true
	d.truth(top["journal"], "journal", &keep)
	g.NoJournal = !keep
	d.oneOf(top["log"], "log", &g.Log, "text", "json")
	d.text(top["records"], "records", &g.Records)

	t := d.section(top["timeouts"], "timeouts", "body", "drain", "header", "idle", "wait")
	for name, into := range map[string]*time.Duration{
		"body": &g.Timeouts.Body, "drain": &g.Timeouts.Drain, "header": &g.Timeouts.Header,
		"idle": &g.Timeouts.Idle, "wait": &g.Timeouts.Wait,
	} {
		d.duration(t[name], "timeouts."+name, into)
	}
	l := d.section(top["limits"], "limits", "body", "connections", "header", "waiting")
	for name, into := range map[string]*int{
		"body": &g.Limits.Body, "connections": &g.Limits.Connections, "header": &g.Limits.Header, "waiting": &g.Limits.Waiting,
	} {
		d.number(l[name], "limits."+name, into)
	}
	return g, d.err
}

// gatewayDecoder reads what only the file of a gateway has.
type gatewayDecoder struct {
	decoder
	gateway *Gateway
}

func (d *gatewayDecoder) upstream(v value, name string) Upstream {
	var u Upstream
	s := d.section(v, name, "abort_on_loss", "alias", "listen", "stomp", "tls", "url")
	d.text(s["url"], name+".url", &u.URL)
	u.URL = strings.TrimSpace(u.URL)
	d.check(s["url"], name+".url", func() error { return checkURL(u.URL) })
	if u.URL != withoutUser(u.URL) {
		d.gateway.Secret = true
	}
	u.TLS = d.tls(s["tls"], name+".tls", "ca", "cert", "key")
	d.oneOf(s["alias"], name+".alias", &u.Alias, "on", "off", "auto")
	d.truth(s["abort_on_loss"], name+".abort_on_loss", &u.AbortOnLoss)

	b := d.section(s["stomp"], name+".stomp", "login", "passcode", "tls", "url")
	if s["stomp"].kind != absent && b["url"].kind == absent {
		d.fail(s["stomp"], "%s.url is missing; write tcp://HOST:PORT", name+".stomp")
	}
	d.text(b["url"], name+".stomp.url", &u.Broker.URL)
	d.check(b["url"], name+".stomp.url", func() error { return checkBrokerURL(u.Broker.URL) })
	if u.Broker.URL != withoutUser(u.Broker.URL) {
		d.fail(b["url"], "%s.stomp.url has a user; write login and passcode", name)
	}
	u.Broker.Login, u.Broker.Passcode = d.login(b, s["stomp"], name+".stomp")
	u.Broker.TLS = d.tls(b["tls"], name+".stomp.tls", "ca", "cert", "key")
	u.Broker.Secure = b["tls"].kind != absent

	l := d.section(s["listen"], name+".listen", "http", "stomp")
	u.HTTP = d.listener(l["http"], name+".listen.http", false)
	u.Stomp = d.listener(l["stomp"], name+".listen.stomp", true)
	return u
}

// listener reads an address, or a section with one.
func (d *gatewayDecoder) listener(v value, name string, login bool) Listener {
	l := Listener{Where: v.where}
	if v.kind != section {
		d.text(v, name, &l.Address)
		return l
	}
	known := []string{"address", "tls"}
	if login {
		known = []string{"address", "login", "passcode", "tls"}
	}
	s := d.section(v, name, known...)
	if s["address"].kind == absent {
		d.fail(v, "%s.address is missing", name)
	}
	d.text(s["address"], name+".address", &l.Address)
	l.TLS = d.tls(s["tls"], name+".tls", "cert", "key")
	l.Login, l.Passcode = d.login(s, v, name)
	return l
}

// login reads a user and a password, which come together.
func (d *gatewayDecoder) login(s map[string]value, parent value, name string) (login, passcode string) {
	user, word := s["login"], s["passcode"]
	if user.kind == absent && word.kind == absent {
		return "", ""
	}
	d.secret(user, parent, name+".login", &login)
	d.secret(word, parent, name+".passcode", &passcode)
	if !word.varied && !strings.HasPrefix(word.text, "${") {
		d.gateway.Secret = true
	}
	return login, passcode
}

func (d *gatewayDecoder) tls(v value, name string, known ...string) TLS {
	var t TLS
	s := d.section(v, name, known...)
	for key, into := range map[string]*string{"ca": &t.CA, "cert": &t.Cert, "key": &t.Key} {
		d.text(s[key], name+"."+key, into)
	}
	if (t.Cert == "") != (t.Key == "") {
		d.fail(v, "%s: cert and key come together", name)
	}
	return t
}

func (d *decoder) oneOf(v value, name string, into *string, words ...string) {
	if v.kind == absent {
		return
	}
	if *into = v.text; v.kind != scalar || !slices.Contains(words, v.text) {
		d.fail(v, "%s is %q; write one of %s", name, v.text, strings.Join(words, ", "))
	}
}

func (d *decoder) duration(v value, name string, into *time.Duration) {
	if v.kind == absent {
		return
	}
	var err error
	if *into, err = time.ParseDuration(v.text); v.kind != scalar || err != nil || *into <= 0 {
		d.fail(v, "%s is %q; write a time such as 90s or 10m", name, v.text)
	}
}

func (d *decoder) number(v value, name string, into *int) {
	if v.kind == absent {
		return
	}
	err := errors.New("no number")
	if v.kind == scalar {
		*into, err = strconv.Atoi(v.text)
	}
	if err != nil || *into <= 0 {
		d.fail(v, "%s is %q; write a number such as 1000", name, v.text)
	}
}

// String names the files for a user; "" if there are none.
func (t TLS) String() string {
	var s strings.Builder
	for _, f := range []struct{ what, path string }{{"CA", t.CA}, {"certificate", t.Cert}, {"key", t.Key}} {
		if f.path != "" {
			s.WriteString(", " + f.what + " " + f.path)
		}
	}
	return s.String()
}
