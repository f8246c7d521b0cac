package blueapi_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
)

func TestOlderServerWithBarePaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Inject(func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
			if strings.HasPrefix(x.URL.Path, "/api/v1") {
				return sim.Answer{Status: 404, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"detail":"Not Found"}`)}
			}
			return next()
		})
		if result, err := w.client.Run(t.Context(), nap); result.Word != blueapi.Done {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

func TestNotABlueapi(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, answer := range []sim.Answer{
			{Status: 200, Header: http.Header{"Content-Type": {"text/html"}}, Body: []byte("<html>Log in</html>")},
			{Status: 302, Header: http.Header{"Location": {"https://login.test/?token=secret"}}},
			{Status: 403, Header: http.Header{"Content-Type": {"text/html"}}, Body: []byte("<html>Forbidden</html>")},
			{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`[1,2]`)},
			{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"plans":null}`)},
			{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`null`)},
		} {
			w.Heal()
			w.Inject(func(*sim.Exchange, func() sim.Answer) sim.Answer { return answer })
			n := len(w.Exchanges())
			_, err := w.client.Plans(t.Context())
			e, _ := errors.AsType[*blueapi.Error](err)
			if e == nil || !e.Foreign || strings.Contains(err.Error(), "secret") {
				t.Errorf("%d: %v", answer.Status, err)
			}
			if sent := len(w.Exchanges()) - n; sent != 1 {
				t.Errorf("%d: asked %d times", answer.Status, sent)
			}
			for _, read := range []func() error{
				func() error { _, err := w.client.WorkerState(t.Context()); return err },
				func() error { _, err := w.client.Environment(t.Context()); return err },
				func() error { _, err := w.client.WorkerTask(t.Context()); return err },
				func() error { _, err := w.client.Tasks(t.Context(), ""); return err },
			} {
				if err := read(); err == nil {
					t.Errorf("%d %s: no error", answer.Status, answer.Body)
				}
			}
		}
	})
}

// TestPasswordInURL is used as any HTTP client does, and shows in no error.
func TestPasswordInURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.client.URL = "http://me:secret@beamline.test"
		if _, err := w.client.Environment(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.Exchanges()[0].Header.Get("Authorization"); got != "Basic bWU6c2VjcmV0" {
			t.Errorf("Authorization: %q", got)
		}
		w.Inject(sim.Status(502))
		_, err := w.client.Environment(t.Context())
		for _, url := range []string{"ftp://me:secret@x", "http://me:secret@", "http://me:secret@x:y", "me:secret@x:8000", "http://me:secret#1@x", "http://me:secret/1@x"} {
			c := &blueapi.Client{URL: url}
			_, bad := c.Environment(t.Context())
			err = errors.Join(err, bad)
			if bad == nil {
				t.Errorf("%s was taken", url)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("shows the password: %v", err)
		}
	})
}
