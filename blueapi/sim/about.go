package sim

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// What a server with a Token says of its identity provider, and of the client.
const (
	defaultIssuer  = "https://identity.example/realms/demo"
	logoutEndpoint = "https://logout.example/oauth2/sign_out"
	tokenUser      = `"ab12345"`
)

func (s *Server) issuer() string { return cmp.Or(s.Issuer, defaultIssuer) }

// user is whose tasks they are, in JSON.
func (s *Server) user() json.RawMessage {
	if s.Token == "" {
		return json.RawMessage("null")
	}
	return json.RawMessage(tokenUser)
}

// knows reports whether a request bears the token, or needs none.
func (s *Server) knows(x *Exchange) bool {
	if s.Token == "" {
		return true
	}
	bearer := x.Header.Get("Authorization")
	if bearer == "" {
		if c, err := (&http.Request{Header: x.Header}).Cookie("Authorization"); err == nil {
			bearer = c.Value
		}
	}
	scheme, token, _ := strings.Cut(bearer, " ")
	return strings.EqualFold(scheme, "Bearer") && token == s.Token
}

func unauthenticated() Answer {
	a := detail(401, "Not authenticated")
	a.Header.Set("Www-Authenticate", "Bearer")
	return a
}

func (p *process) getOIDC(*Exchange, string) (Answer, error) {
	if err := p.threaded(theConfig, func(*worker) error { return nil }); err != nil {
		return Answer{}, err
	}
	if p.server.Token == "" {
		return Answer{Status: 204, Header: make(http.Header)}, nil
	}
	return ok(struct {
		WellKnownURL *string `json:"well_known_url"`
		Issuer       string  `json:"issuer"`
		ClientID     string  `json:"client_id"`
		Audience     string  `json:"client_audience"`
		Logout       string  `json:"logout_redirect_endpoint"`
	}{nil, p.server.issuer(), "blueapi-cli", "blueapi", logoutEndpoint})
}

func (p *process) logOut(*Exchange, string) (Answer, error) {
	if err := p.threaded(theConfig, func(*worker) error { return nil }); err != nil {
		return Answer{}, err
	}
	if p.server.Token == "" {
		return Answer{Status: 205, Header: make(http.Header)}, nil
	}
	return redirect(308, logoutEndpoint+"?rd="+url.QueryEscape(p.server.issuer()+"/logout")), nil
}

// pythonTime is what it takes to look through the installed packages.
const pythonTime = 100 * time.Millisecond

type pythonPackage struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Location string `json:"location"`
	IsDirty  bool   `json:"is_dirty"`
	Source   string `json:"source"`
}

// pythonPackages are some of those that the real server had, in its order.
func pythonPackages() []pythonPackage {
	var all []pythonPackage
	for _, p := range [][2]string{
		{"bidict", "0.24.1"}, {"blosc2", "4.14.1"}, {"blueapi", Version}, {"bluesky", "1.15.1"}, {"bluesky-stomp", "0.2.0"}, {"click", "8.5.1"},
	} {
		all = append(all, pythonPackage{Name: p[0], Version: p[1], Location: "/venv/lib/python3.11/site-packages", Source: "pypi"})
	}
	return all
}

func (p *process) getPythonEnvironment(x *Exchange, _ string) (Answer, error) {
	source, bad := choice(x, "source", "pypi", "scratch")
	if bad != nil {
		return *bad, nil
	}
	v := struct {
		Packages []pythonPackage `json:"installed_packages"`
		Scratch  bool            `json:"scratch_enabled"`
	}{Packages: []pythonPackage{}}
	name := x.URL.Query().Get("name")
	err := p.threaded(theConfig, func(*worker) error {
		for _, q := range pythonPackages() {
			if (name == "" || q.Name == name) && (source == "" || q.Source == source) {
				v.Packages = append(v.Packages, q)
			}
		}
		return p.pause(pythonTime)
	})
	if err != nil {
		return Answer{}, err
	}
	return ok(v)
}
