package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/adamant-go/adamant/blueapi"
)

// TestRunMeetsALoginPage: what stands before the server asks for a login.
func TestRunMeetsALoginPage(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>Log in</html>")
	}))
	t.Cleanup(s.Close)
	c := &blueapi.Client{URL: s.URL}
	t.Cleanup(c.Close)
	result, err := c.Run(t.Context(), blueapi.TaskRequest{Name: "nap"})
	for _, v := range []voice{asAdamant, asBlueapi} {
		if e := endOfRun(v, compact, "nap", result, err); e.msg == "" || e.status == statusDone {
			t.Errorf("%+v", e)
		}
	}
}
