package sim_test

import (
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// brokenRecordings are of a server whose environment does not load.
var brokenRecordings = []string{
	"155-broken-environment", "156-broken-healthz", "157-broken-plans", "158-broken-submit",
	"159-broken-worker-state", "160-broken-oidc", "161-broken-python-environment",
}

// hold holds a simulator of its own to recordings.
func hold(t *testing.T, server *sim.Server, names []string) {
	synctest.Test(t, func(t *testing.T) {
		defer server.Close()
		tr := &http.Transport{DialContext: server.DialContext}
		defer tr.CloseIdleConnections()
		s := suite{
			client: &http.Client{Transport: tr, CheckRedirect: noRedirect}, url: "http://blueapi.example:8000",
			venv: "/venv", ids: make(map[string]string),
		}
		for _, name := range names {
			s.replay(t, name)
		}
	})
}

func TestBrokenEnvironmentConformance(t *testing.T) {
	var s sim.Server
	s.Break("ModuleNotFoundError: No module named 'nonesuch_module'")
	hold(t, &s, brokenRecordings)
}

// TestTokenConformance: the recordings of a server with authentication, whose
// tokens stand here by name. Without those of a token that is good while the
// identity provider is away: the simulator has no provider.
func TestTokenConformance(t *testing.T) {
	hold(t, &sim.Server{Token: "TOKEN-good", Issuer: "http://127.0.0.1:46025/realms/demo"}, []string{
		"auth/001-healthz-no-token", "auth/002-oidc-config", "auth/004-no-token", "auth/005-root-no-token",
		"auth/006-submit-no-token", "auth/007-unknown-path-no-token", "auth/008-other-scheme", "auth/009-garbage-token",
		"auth/010-expired-token", "auth/011-wrong-audience", "auth/012-wrong-issuer", "auth/013-good-token",
		"auth/014-good-cookie", "auth/015-logout", "auth/016-submit-good-token", "auth/017-task-with-user",
	})
}
