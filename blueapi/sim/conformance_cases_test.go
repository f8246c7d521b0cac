package sim_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A step is a recording to repeat, or something to do between them.
type step struct {
	recording string
	do        func(*testing.T, *suite)
}

func replay(names ...string) (steps []step) {
	for _, n := range names {
		steps = append(steps, step{recording: n})
	}
	return steps
}

// submit makes a task that a recording names.
func submit(id, plan, params string) []step {
	return []step{{do: func(t *testing.T, s *suite) {
		resp, b := s.send(t, "POST", "/tasks", map[string]string{"Content-Type": "application/json"}, request(plan, s.here(params)))
		var v struct {
			ID string `json:"task_id"`
		}
		if err := json.Unmarshal(b, &v); err != nil || v.ID == "" {
			t.Fatalf("submitting %s: %s %s", plan, resp.Status, b)
		}
		s.ids[id] = v.ID
	}}}
}

// idle waits for the end of the plan.
func idle() []step { return until("IDLE") }

// until waits for a state of the worker, and then for the record of a plan that
// has ended or was paused to be closed.
func until(state string) []step {
	return []step{{do: func(t *testing.T, s *suite) {
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			if _, b := s.send(t, "GET", "/worker/state", nil, ""); string(b) == `"`+state+`"` {
				time.Sleep(100 * time.Millisecond)
				return
			}
		}
		t.Fatalf("the worker does not get %s", state)
	}}}
}

// start starts a task whose start was not recorded.
func start(id string) []step {
	return []step{{do: func(t *testing.T, s *suite) {
		resp, b := s.send(t, "PUT", "/worker/task", map[string]string{"Content-Type": "application/json"}, `{"task_id":"`+s.ids[id]+`"}`)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("starting %s: %s %s", id, resp.Status, b)
		}
	}}}
}

// run starts a task and waits for its end.
func run(id string) []step { return append(start(id), idle()...) }

// paused pauses a plan in its midst.
func paused() []step {
	return append([]step{{do: func(t *testing.T, s *suite) {
		time.Sleep(300 * time.Millisecond)
		resp, b := s.send(t, "PUT", "/worker/state", map[string]string{"Content-Type": "application/json"}, `{"new_state":"PAUSED"}`)
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("pausing: %s %s", resp.Status, b)
		}
	}}}, until("PAUSED")...)
}

// command gives the worker an order, and tells how long its answer may take.
func command(state, more, want string, least, most time.Duration) []step {
	return []step{{do: func(t *testing.T, s *suite) {
		begin := time.Now()
		resp, b := s.send(t, "PUT", "/worker/state", map[string]string{"Content-Type": "application/json"}, `{"new_state":"`+state+`"`+more+`}`)
		alike := string(b) == want || want == `"IDLE"` && string(b) == `"`+state+`"` // it depends
		if d := time.Since(begin); resp.StatusCode != http.StatusAccepted || !alike || d < least || d > most {
			t.Errorf("%s: %s %s after %v, expected %s", state, resp.Status, b, d, want)
		}
	}}}
}

// meanwhile asks something that is answered only with the steps, and at least
// this late.
func meanwhile(path string, least time.Duration, steps []step) []step {
	return []step{{do: func(t *testing.T, s *suite) {
		took := make(chan time.Duration)
		go func() {
			time.Sleep(300 * time.Millisecond)
			begin := time.Now()
			resp, err := s.client.Get(s.url + path)
			if err == nil {
				resp.Body.Close()
			}
			took <- time.Since(begin)
		}()
		for _, step := range steps {
			step.do(t, s)
		}
		if d := <-took; d < least {
			t.Errorf("%s was answered after %v", path, d)
		}
	}}}
}

// ended looks at the type of a task's outcome.
func ended(id, outcome string) []step {
	return []step{{do: func(t *testing.T, s *suite) {
		var v struct {
			IsComplete bool `json:"is_complete"`
			Outcome    struct{ Type string }
		}
		_, b := s.send(t, "GET", "/tasks/"+s.ids[id], nil, "")
		if err := json.Unmarshal(b, &v); err != nil || !v.IsComplete || v.Outcome.Type != outcome {
			t.Errorf("%s: %s, expected %s", id, b, outcome)
		}
	}}}
}

// clear deletes all tasks.
func clear() []step {
	return []step{{do: func(t *testing.T, s *suite) {
		var v struct {
			Tasks []struct {
				ID string `json:"task_id"`
			}
		}
		_, b := s.send(t, "GET", "/tasks", nil, "")
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		for _, task := range v.Tasks {
			s.send(t, "DELETE", "/tasks/"+task.ID, nil, "")
		}
	}}}
}

// reload makes a new environment, and asks for nothing else meanwhile.
func reload() []step {
	return []step{{do: func(t *testing.T, s *suite) {
		s.send(t, "DELETE", "/environment", nil, "")
	}}, {do: reloaded}}
}

func reloaded(t *testing.T, s *suite) {
	seen := false
	for range 600 {
		time.Sleep(100 * time.Millisecond)
		_, b := s.send(t, "GET", "/environment", nil, "")
		if strings.Contains(string(b), `"initialized":false`) {
			seen = true
		} else if seen {
			return
		}
	}
	t.Fatal("the environment is not reloaded")
}

const (
	napping    = "14813928-5692-4de2-8372-f5b872fa4b65"
	number     = "3ac17100-2f93-412b-8c6b-067d2e90e36c"
	slow       = "90e4b28e-1b03-4a15-887f-4e157c6129d9"
	deleted    = "e6340433-4234-4a12-b51e-432587be18a2"
	after      = "5222cf0a-42b6-455b-b1d8-bac2354bd3b1"
	beforeLoad = "7a04d4fc-372f-4e0e-ba05-e4956a89752f"

	abortedTask    = "90fb4061-a608-4a97-940c-4fe0d863b8b2"
	stoppedTask    = "e1d02582-a82f-4b79-9801-f04c28c7c2f0"
	pausedTask     = "cc217d08-f7a1-412c-a8f7-12d21840a163"
	refusedTask    = "cca50f1b-f932-462e-b46f-504dbd236c11"
	pausedAborted  = "0df9cfcb-c062-4dce-8032-ef0f5612e9ec"
	pausedStopped  = "350fe341-798d-42e4-9b60-4ea70631f543"
	resumedFailing = "c4b6f7ec-700c-472c-a271-00d18456dfd4"
	resumedSending = "83b47a34-9c4e-4bf3-9176-c24208d64720"
)

// results are the tasks of the recordings 090 to 097 but the first.
var results = []struct{ id, plan, params string }{
	{"b950ce10-d54f-48a1-afb3-11f21b0a0375", "returns", `{"value":"text"}`},
	{"6775fd65-ae43-4073-8fd1-38d148fc431a", "returns", `{"value":{"a":[1,null]}}`},
	{"807856fc-8a3b-45c2-ab5b-c3db22affc60", "returns", `{"value":[1,"b"]}`},
	{"4478ffec-d949-4c2b-976c-fda8e79b04f0", "returns", `{"value":1.5}`},
	{"a824d946-6c6c-449e-babe-2d967b6acec8", "returns", `{"value":true}`},
	{"6503a739-fecb-4bf5-ab5d-ac29a104f29c", "unserialisable", `{}`},
	{"891605cb-0cd9-48e4-bf83-8cc3cb37a826", "fail", `{"message":"boom"}`},
}

// cases are run one after the other on one server.
var cases = []struct {
	name  string
	steps [][]step
}{
	{"a new environment", [][]step{
		reload(),
		replay("001-healthz", "002-environment", "003-environment-v1", "004-worker-task-none", "005-tasks-empty",
			"023-worker-state-idle", "024-worker-state-v1"),
	}},
	{"plans and devices", [][]step{
		replay("007-plan", "008-plan-v1", "009-plan-unknown", "010-devices", "011-devices-v1", "012-device", "013-device-dotted", "014-device-unknown"),
	}},
	{"paths and methods", [][]step{
		replay("026-root-redirect", "027-trailing-slash", "028-trailing-slash-post", "029-not-found",
			"030-v1-healthz-not-found", "031-v1-oidc-not-found", "032-v1-root-not-found", "033-v2-get-not-found",
			"034-method-not-allowed", "035-method-not-allowed-head", "036-method-not-allowed-delete-tasks", "037-options"),
	}},
	{"about the server", [][]step{
		replay("015-oidc-config-none", "016-logout-none", "018-python-environment-name", "019-python-environment-name-unknown",
			"020-python-environment-pypi", "021-python-environment-scratch", "022-python-environment-bad-source"),
	}},
	{"submit", [][]step{
		clear(),
		replay("038-submit", "039-submit-v1", "040-submit-no-params", "041-submit-odd-session", "042-submit-all-kinds",
			"043-submit-unknown-plan", "044-submit-missing-param", "045-submit-extra-param", "046-submit-wrong-type",
			"047-submit-many-errors", "048-submit-unknown-device", "049-submit-wrong-device", "050-submit-device-not-string",
			"051-submit-empty-list",
			"052-submit-body-missing-fields", "053-submit-body-missing-session", "054-submit-body-extra-field",
			"055-submit-body-params-not-object", "056-submit-body-null", "057-submit-body-list",
			"058-submit-body-broken-json", "059-submit-body-wrong-content-type", "060-submit-body-none"),
	}},
	{"tasks", [][]step{
		replay("061-tasks-pending", "062-tasks-bad-status", "063-task-pending", "064-task-delete-pending", "065-task-delete-again",
			"066-task-deleted", "067-task-unknown"),
	}},
	{"start refused", [][]step{
		replay("068-start-null", "069-start-empty", "070-start-missing", "071-start-extra-field",
			"072-start-wrong-type", "073-start-broken-json", "074-start-unknown"),
	}},
	{"start", [][]step{
		clear(), submit(napping, "nap", `{"seconds":2}`), submit(number, "returns", `{"value":42}`),
		replay("075-start", "076-start-again-busy", "077-start-other-busy", "078-start-unknown-busy",
			"079-worker-task-running", "080-worker-state-running", "081-task-running", "082-tasks-running",
			"083-tasks-running-and-pending"),
		idle(),
		replay("084-task-complete", "085-worker-task-after", "086-start-finished", "087-task-delete-complete",
			"088-worker-task-deleted"),
	}},
	{"results", [][]step{
		replay("089-start-v1"), idle(), replay("090-task-result-int"),
		func() (steps []step) {
			for _, r := range results {
				steps = append(append(steps, submit(r.id, r.plan, r.params)...), run(r.id)...)
			}
			return steps
		}(),
		replay("091-task-result-str", "092-task-result-dict", "093-task-result-list", "094-task-result-float",
			"095-task-result-bool", "096-task-result-unserialisable", "097-task-failed", "098-tasks-complete", "099-tasks-error"),
	}},
	{"commands to an idle worker", [][]step{
		replay("100-state-idle-to-paused", "101-state-idle-to-running", "102-state-idle-to-aborting", "103-state-idle-to-stopping",
			"104-state-idle-to-idle", "105-state-bad", "106-state-missing", "107-state-extra-field"),
	}},
	{"abort and stop", [][]step{
		submit(abortedTask, "nap", `{"seconds":20}`), start(abortedTask),
		replay("108-state-running-to-running", "109-abort"), idle(), replay("110-task-aborted"),
		submit(stoppedTask, "nap", `{"seconds":20}`), start(stoppedTask),
		replay("111-stop"), idle(), replay("112-task-stopped"),
		submit("stopped-2", "nap", `{"seconds":20}`), start("stopped-2"),
		replay("113-stop-with-null-reason"), idle(),
	}},
	{"pause and resume", [][]step{
		submit(pausedTask, "nap", `{"seconds":1.5}`), submit(refusedTask, "returns", `{"value":1}`), start(pausedTask),
		replay("114-pause"), until("PAUSED"),
		replay("115-worker-state-paused", "116-task-paused", "117-worker-task-paused", "118-tasks-running-while-paused",
			"119-start-same-while-paused", "120-start-other-while-paused", "121-task-refused-while-paused",
			"122-worker-task-refused-while-paused", "123-pause-while-paused", "124-resume"),
		idle(),
		replay("125-task-resumed", "126-task-refused-after"),
		run(refusedTask),
	}},
	{"abort and stop while paused", [][]step{
		submit(pausedAborted, "nap", `{"seconds":20}`), start(pausedAborted),
		replay("127-pause-deferred"), until("PAUSED"), replay("128-abort-while-paused"), idle(), replay("129-task-aborted-while-paused"),
		submit(pausedStopped, "nap", `{"seconds":20}`), start(pausedStopped),
		replay("130-pause-2"), until("PAUSED"), replay("131-stop-while-paused"), idle(), replay("132-task-stopped-while-paused"),
	}},
	{"how a resumed plan ends", [][]step{
		submit(resumedFailing, "fail", `{"message":"boom","seconds":1}`), start(resumedFailing), paused(),
		replay("133-resume-failing-plan"), idle(), replay("134-task-resumed-failing-plan"),
		submit(resumedSending, "many_events", `{"n":10,"delay":0.1}`), start(resumedSending), paused(),
		replay("135-resume-with-open-run"), idle(), replay("136-task-resumed-with-open-run"),
		submit("moving", "moves", `{"x":0.5,"y":0.5}`), start("moving"), paused(),
		replay("137-resume-moving-plan"), idle(),
		submit("sending", "many_events", `{"n":50,"delay":0.1}`), start("sending"), paused(),
		replay("138-abort-with-open-run-while-paused"), idle(),
	}},
	{"a deferred pause of a plan without checkpoints", [][]step{
		submit("straight", "moves", `{"x":0.5,"y":0.5,"home":false}`), start("straight"),
		command("PAUSED", `,"defer":true`, `"RUNNING"`, 0, time.Second), idle(), ended("straight", "NoneType"),
	}},
	{"a resumed plan and a plan that blocks hold everything", [][]step{
		submit("holding", "nap", `{"seconds":3}`), start("holding"), paused(),
		meanwhile("/healthz", time.Second, command("RUNNING", ``, `"IDLE"`, 2*time.Second, 5*time.Second)), ended("holding", "RunEngineInterrupted"),
		submit("blocking", "stuck", `{"seconds":3}`), start("blocking"),
		meanwhile("/healthz", time.Second, command("ABORTING", ``, `"IDLE"`, 2*time.Second, 5*time.Second)), idle(), ended("blocking", "RunEngineInterrupted"),
	}},
	{"slow start", [][]step{
		submit(slow, "slow_start", `{"seconds":7,"path":"/realserver/slow.txt"}`),
		replay("139-start-slow", "140-task-slow-not-started", "141-start-slow-again"),
		{{do: func(*testing.T, *suite) { time.Sleep(3 * time.Second) }}},
		idle(),
		replay("142-task-slow-ended"),
	}},
	{"delete a running task", [][]step{
		submit(deleted, "nap", `{"seconds":3}`), submit(after, "returns", `{"value":1}`),
		start(deleted),
		replay("143-task-delete-running", "144-task-deleted-running", "145-worker-task-deleted-running",
			"146-worker-state-deleted-running"),
		idle(),
		replay("147-task-deleted-running-ended", "148-worker-task-deleted-running-ended", "149-start-after-deleted-running"),
		idle(),
		replay("150-task-after-deleted-running"),
	}},
	{"reload", [][]step{
		submit(beforeLoad, "nap", `{"seconds":1}`),
		replay("151-environment-delete"),
		{{do: reloaded}},
		replay("152-environment-reloaded", "153-task-before-reload", "154-worker-task-reloaded"),
	}},
}
