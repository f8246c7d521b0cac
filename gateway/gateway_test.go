package gateway_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestPassedThrough: without faults a caller sees what it would see without a gateway.
func TestPassedThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		direct := newCaller(t, w.Network(), "blueapi.sim:8000")
		defer direct.http.CloseIdleConnections()
		id := w.caller.submit(nap)
		for _, q := range []struct{ method, path, body string }{
			{"GET", "/environment", ""},
			{"GET", "/api/v1/environment", ""},
			{"GET", "/plans", ""},
			{"GET", "/api/v1/plans/nap", ""},
			{"GET", "/plans/nonesuch", ""},
			{"GET", "/devices", ""},
			{"GET", "/devices/stage.x", ""},
			{"GET", "/tasks", ""},
			{"GET", "/tasks?task_status=PENDING", ""},
			{"GET", "/tasks?task_status=NONE", ""},
			{"GET", "/tasks/" + id, ""},
			{"GET", "/worker/task", ""},
			{"GET", "/worker/state", ""},
			{"GET", "/python_environment?name=click", ""},
			{"GET", "/config/oidc", ""},
			{"GET", "/api/v1/config/oidc", ""},
			{"GET", "/healthz", ""},
			{"GET", "/api/v1/healthz", ""},
			{"GET", "/", ""},
			{"GET", "/nonesuch", ""},
			{"GET", "/plans/", ""},
			{"POST", "/tasks/", nap},
			{"HEAD", "/plans", ""},
			{"OPTIONS", "/tasks", ""},
			{"DELETE", "/tasks", ""},
			{"PATCH", "/worker/task", "{}"},
			{"GET", "/logout", ""},
			{"POST", "/tasks", task("nonesuch", "{}")},
			{"POST", "/tasks", task("nap", "{}")},
			{"POST", "/tasks", "{"},
			{"PUT", "/worker/task", `{"task_id":null}`},
			{"PUT", "/worker/task", `{"task_id":"nonesuch"}`},
			{"PUT", "/worker/task", `{"task_id":5}`},
			{"PUT", "/worker/task", `{}`},
			{"PUT", "/worker/task", `{"task_id":"` + id + `","x":1}`},
			{"PUT", "/worker/task", `{"task_id`},
			{"PUT", "/worker/state", `{"new_state":"PAUSED"}`},
			{"PUT", "/worker/state", `{"new_state":"RUNNING"}`},
			{"PUT", "/worker/state", `{"new_state":"ABORTING","reason":"x"}`},
			{"PUT", "/worker/state", `{"new_state":"STOPPING","reason":null}`},
			{"PUT", "/worker/state", `{"new_state":"IDLE"}`},
			{"PUT", "/worker/state", `{"new_state":"NONE"}`},
			{"PUT", "/worker/state", `{}`},
			{"PUT", "/api/v1/worker/state", `{"new_state":"PAUSED","defer":true}`},
			{"PUT", "/worker/state", `{"new_state":"PAUSED","x":1}`},
			{"DELETE", "/tasks/nonesuch", ""},
			{"GET", "/api/v2/run_plan", ""},
		} {
			want := direct.ask(context.Background(), q.method, q.path, q.body)
			got := w.caller.ask(context.Background(), q.method, q.path, q.body)
			if got.err != nil || want.err != nil || got.status != want.status || got.body != want.body {
				t.Errorf("%s %s: %v, want %v", q.method, q.path, got, want)
				continue
			}
			for _, h := range []http.Header{got.header, want.header} {
				h.Del("Date")
			}
			for key := range want.header {
				if g, w := got.header.Values(key), want.header.Values(key); len(g) != 1 || g[0] != w[0] {
					t.Errorf("%s %s: %s: %q, want %q", q.method, q.path, key, g, w)
				}
			}
			for key := range got.header {
				if want.header.Values(key) == nil {
					t.Errorf("%s %s: %s: %q, want none", q.method, q.path, key, got.header.Values(key))
				}
			}
		}
	})
}

// TestPlanIsRun: what callers do to run a plan.
func TestPlanIsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		id := w.caller.submit(nap)
		a := w.caller.start(id)
		if a.status != http.StatusOK || a.body != `{"task_id":"`+id+`"}` || a.header.Get("X-Blueapi-Version") == "" || a.header.Get("X-Api-Version") == "" {
			t.Fatalf("%v %v", a, a.header)
		}
		if a := w.caller.start(w.caller.submit(nap)); a.status != http.StatusConflict || a.body != `{"detail":"Worker already active"}` {
			t.Errorf("another at the same time: %v", a)
		}
		if a := w.caller.start(id); a.status != http.StatusConflict {
			t.Errorf("again at the same time: %v", a)
		}
		if task := w.caller.await(id); task.Outcome == nil || task.Outcome.Kind != "success" {
			t.Errorf("%+v", task)
		}
		time.Sleep(time.Second)
		if a := w.caller.start(id); a.status != http.StatusNotFound {
			t.Errorf("again afterwards: %v", a)
		}
		if n := len(w.Runs()); n != 1 {
			t.Errorf("%d runs", n)
		}
		if n := w.asked("PUT", "/worker/task"); n != 3 {
			t.Errorf("%d requests to start a task", n)
		}
	})
}
