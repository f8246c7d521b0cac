//go:build realserver

package sim_test

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRealServerConformance holds the real server at BLUEAPI_URL to the same
// recordings, so that simulator and recordings cannot agree on a mistake. It
// takes about a minute, reloads the environment and deletes all tasks.
func TestRealServerConformance(t *testing.T) {
	api := os.Getenv("BLUEAPI_URL")
	if api == "" {
		t.Skip("BLUEAPI_URL is not set")
	}
	tr := &http.Transport{IdleConnTimeout: 4 * time.Second}
	defer tr.CloseIdleConnections()
	s := suite{
		client: &http.Client{Transport: tr, CheckRedirect: noRedirect}, url: api, dir: t.TempDir(),
		venv: filepath.Dir(filepath.Dir(os.Getenv("BLUEAPI_PY"))),
	}
	s.conform(t)
}

// TestRealServerEvents does the same with what it publishes, to the broker at
// STOMP_URL and to WebSockets. It takes three minutes.
func TestRealServerEvents(t *testing.T) {
	api, broker := os.Getenv("BLUEAPI_URL"), os.Getenv("STOMP_URL")
	if api == "" || broker == "" {
		t.Skip("BLUEAPI_URL or STOMP_URL is not set")
	}
	dial := func(at string) func(context.Context) (net.Conn, error) {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", u.Host) }
	}
	g := newTarget(t, api, dial(api), dial(broker))
	g.until("IDLE")
	g.conformAllStomp()
	g.conformAllWS()
}
