//go:build realserver

package sim_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRealServerConformance holds the real server at BLUEAPI_URL to the same
// recordings, so that simulator and recordings cannot agree on a mistake. It
// takes about a minute, reloads the environment and deletes all tasks.
func TestRealServerConformance(t *testing.T) {
	url := os.Getenv("BLUEAPI_URL")
	if url == "" {
		t.Skip("BLUEAPI_URL is not set")
	}
	tr := &http.Transport{IdleConnTimeout: 4 * time.Second}
	defer tr.CloseIdleConnections()
	s := suite{
		client: &http.Client{Transport: tr, CheckRedirect: noRedirect}, url: url, dir: t.TempDir(),
		venv: filepath.Dir(filepath.Dir(os.Getenv("BLUEAPI_PY"))),
	}
	s.conform(t)
}
