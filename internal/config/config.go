// Package config reads blueapi's configuration files: the part of them that a
// client needs. Load is the function to use.
//
// The files are the ones that blueapi itself reads, so they may hold settings
// of the server too. Those are accepted and not looked into; a key that
// blueapi does not know is refused, as blueapi refuses it.
package config

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Config is what a client needs to know.
type Config struct {
	// URL is the server's, with scheme: api.url.
	URL   string
	Stomp Stomp
	// AuthTokenPath is where the login is kept, as written in the file; empty
	// means the usual place.
	AuthTokenPath string
	// LogLevel is NOTSET, DEBUG, INFO, WARNING, ERROR or CRITICAL.
	LogLevel string
}

// Stomp tells where the server's message broker is.
type Stomp struct {
	// Enabled is false if there is no broker to use.
	Enabled bool
	// URL has the scheme tcp.
	URL string
	// Username and Password are empty if the broker asks for none.
	Username, Password string
}

// Load reads the files and merges them, section by section, a later one over
// an earlier one. Without files it returns the defaults: blueapi has no file
// that is read unasked.
//
// Variables written $NAME or ${NAME} in a value without quotes are replaced by
// the environment's; one that is not set stays as it is written.
//
// A host that is not empty stands for api.url, whatever the files say of it, as
// blueapi's option --host does.
//
// An error says in which file, on which line, and what to do about it.
func Load(host string, paths ...string) (Config, error) {
	merged := value{kind: section}
	for _, path := range paths {
		v, err := readFile(path)
		if err != nil {
			return Config{}, err
		}
		merged = merge(merged, v)
	}
	if host = strings.TrimSpace(host); host != "" {
		if err := checkURL(host); err != nil {
			return Config{}, fmt.Errorf("--host: %w", err)
		}
		merged = merge(merged, atHost(host))
	}
	return decode(merged)
}

// atHost is what --host says, as a file would say it.
func atHost(host string) value {
	one := func(key string, v value) value {
		s := value{kind: section, fields: map[string]value{}, keyAt: map[string]string{}}
		s.set(key, v.where, v)
		return s
	}
	return one("api", one("url", value{kind: scalar, text: host, isText: true}))
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	s = withoutUser(s)
	switch {
	case err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && isPort(u.Port()):
		return nil
	case strings.Contains(s, "$"):
		return fmt.Errorf("%q is not a URL; is the variable set?", s)
	case strings.Contains(s, "://"):
		return fmt.Errorf("%q is not a URL of http or https, such as http://localhost:8000", s)
	default:
		return fmt.Errorf("%q has no scheme; write http://%s", s, s)
	}
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil || s == ""
}

// withoutUser cuts user and password out of what may be a URL.
func withoutUser(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s[strings.LastIndex(s, "@")+1:]
	}
	return scheme + "://" + rest[strings.LastIndex(rest, "@")+1:]
}

// decode takes what a client needs out of the merged files, which are checked
// as a whole: what a later file replaces is not looked at.
func decode(root value) (Config, error) {
	c := Config{URL: "http://localhost:8000", LogLevel: "INFO"}
	c.Stomp.URL = "tcp://localhost:61613"

	d := &decoder{}
	top := d.section(root, "", topKeys()...)

	api := d.section(top["api"], "api", apiKeys()...)
	d.text(api["url"], "api.url", &c.URL)
	c.URL = strings.TrimSpace(c.URL)
	d.check(api["url"], "api.url", func() error { return checkURL(c.URL) })

	stomp := d.section(top["stomp"], "stomp", stompKeys()...)
	d.truth(stomp["enabled"], "stomp.enabled", &c.Stomp.Enabled)
	d.text(stomp["url"], "stomp.url", &c.Stomp.URL)
	c.Stomp.URL = strings.TrimSpace(c.Stomp.URL)
	d.check(stomp["url"], "stomp.url", func() error { return checkBrokerURL(c.Stomp.URL) })
	if auth := stomp["auth"]; auth.kind != null && auth.kind != absent {
		auth := d.section(auth, "stomp.auth", "password", "username")
		d.secret(auth["username"], stomp["auth"], "stomp.auth.username", &c.Stomp.Username)
		d.secret(auth["password"], stomp["auth"], "stomp.auth.password", &c.Stomp.Password)
	}

	if path := top["auth_token_path"]; path.kind != null {
		d.text(path, "auth_token_path", &c.AuthTokenPath)
	}

	logging := d.section(top["logging"], "logging", "graylog", "level")
	d.text(logging["level"], "logging.level", &c.LogLevel)
	d.check(logging["level"], "logging.level", func() error {
		levels := []string{"NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
		if slices.Contains(levels, c.LogLevel) {
			return nil
		}
		return fmt.Errorf("%q is not one of %s", c.LogLevel, strings.Join(levels, ", "))
	})

	if d.err != nil {
		return Config{}, d.err
	}
	return c, nil
}

// The keys that blueapi knows, at the top and in the sections that matter to a client.
func topKeys() []string {
	return []string{
		"api", "auth_token_path", "env", "logging", "numtracker", "oidc", "opa", "scratch", "stomp", "tiled",
	}
}
func apiKeys() []string   { return []string{"cors", "url"} }
func stompKeys() []string { return []string{"auth", "enabled", "url"} }

func checkBrokerURL(s string) error {
	if u, err := url.Parse(s); err == nil && u.Scheme == "tcp" && u.Host != "" && isPort(u.Port()) {
		return nil
	}
	return fmt.Errorf("%q is not the URL of a broker; write tcp://HOST:PORT", withoutUser(s))
}

// decoder takes typed values out of a tree and keeps the first error.
type decoder struct{ err error }

func (d *decoder) fail(v value, format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", v.where, fmt.Errorf(format, args...))
	}
}

// section returns the values of a section, of which only known keys may be
// there. A section that is absent is empty.
func (d *decoder) section(v value, name string, known ...string) map[string]value {
	switch v.kind {
	case absent:
		return nil
	case section:
	default:
		if name == "" {
			name = "the file"
		}
		d.fail(v, "%s must be a section with keys (known: %s)", name, strings.Join(known, ", "))
		return nil
	}
	for _, key := range v.keys {
		if !slices.Contains(known, key) {
			where := "at the top"
			if name != "" {
				where = "in " + name
			}
			d.fail(value{where: v.keyAt[key]},
				"unknown key %q %s; correct or remove it (known: %s)", key, where, strings.Join(known, ", "))
		}
	}
	return v.fields
}

func (d *decoder) text(v value, name string, into *string) {
	switch {
	case v.kind == absent:
	case v.kind == scalar && v.isText:
		*into = v.text
	default:
		d.fail(v, "%s must be text; put it in quotes if it is", name)
	}
}

// truth reads a truth value in all the spellings that blueapi accepts.
func (d *decoder) truth(v value, name string, into *bool) {
	if v.kind == absent {
		return
	}
	if v.kind == scalar {
		switch strings.ToLower(v.text) {
		case "true", "yes", "on", "t", "y", "1":
			*into = true
			return
		case "false", "no", "off", "f", "n", "0":
			*into = false
			return
		}
	}
	d.fail(v, "%s is %q; write true or false", name, v.text)
}

// secret reads a user name or password. One that is ${NAME} and nothing else
// is a variable even in quotes, is looked up in upper case, and must be set.
func (d *decoder) secret(v, parent value, name string, into *string) {
	if v.kind == absent {
		d.fail(parent, "%s is missing", name)
		return
	}
	d.text(v, name, into)
	variable, ok := strings.CutPrefix(*into, "${")
	if !ok || !strings.HasSuffix(variable, "}") {
		return
	}
	variable = strings.ToUpper(strings.TrimSuffix(variable, "}"))
	if *into, ok = os.LookupEnv(variable); !ok {
		d.fail(v, "%s: the environment variable %s is not set", name, variable)
	}
}

// check runs a test on a value that was read, if it was written anywhere.
func (d *decoder) check(v value, name string, test func() error) {
	if v.kind == absent || d.err != nil {
		return
	}
	if err := test(); err != nil {
		d.fail(v, "%s: %w", name, err)
	}
}

func readFile(path string) (value, error) {
	b, err := readAll(path)
	if err != nil {
		return value{}, err
	}
	return parse(path, b)
}

func readAll(path string) ([]byte, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		// The very words of blueapi, which scripts may look for.
		return nil, fmt.Errorf("Config file not found: %s", path)
	case err != nil:
		return nil, fmt.Errorf("cannot read the config file: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the config file: %w", err)
	}
	return b, nil
}
