//go:build linux && realserver

package realserver

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// record is what the tests read of a task.
type record struct {
	Complete bool `json:"is_complete"`
	Outcome  *struct {
		Outcome, Type string
	}
}

// interrupted reports whether the plan was paused, aborted or stopped.
func (r record) interrupted() bool {
	return r.Outcome != nil && r.Outcome.Type == "RunEngineInterrupted"
}

// environment is what the tests read of GET /environment.
type environment struct {
	ID          string `json:"environment_id"`
	Initialized bool
}

// ask makes a request to the server itself, past any proxy, on a connection of its
// own. The status is 0 if there was no answer. It is safe to call from any goroutine,
// as are create, start, begin and put.
func (s *Server) ask(t *testing.T, method, path, body string) (status int, answer string) {
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// create makes a task of a plan.
func (s *Server) create(t *testing.T, p plan) (task string) {
	t.Helper()
	status, answer := s.ask(t, http.MethodPost, "/tasks",
		fmt.Sprintf(`{"name":%q,"params":%s,"instrument_session":"cm12345-1"}`, p.name, p.json()))
	var created struct {
		ID string `json:"task_id"`
	}
	if err := json.Unmarshal([]byte(answer), &created); err != nil || status != http.StatusCreated {
		t.Errorf("POST /tasks: %d %s", status, answer)
	}
	return created.ID
}

// start starts a task, and reports whether the worker took it.
func (s *Server) start(t *testing.T, task string) bool {
	status, _ := s.ask(t, http.MethodPut, "/worker/task", fmt.Sprintf(`{"task_id":%q}`, task))
	return status == http.StatusOK
}

// begin runs a plan in the background.
func (s *Server) begin(t *testing.T, p plan) (task string) {
	t.Helper()
	task = s.create(t, p)
	if !s.start(t, task) {
		t.Errorf("the server did not start %s", p.name)
	}
	return task
}

// put asks for a state of the worker.
func (s *Server) put(t *testing.T, state string) (status int, answer string) {
	return s.ask(t, http.MethodPut, "/worker/state", fmt.Sprintf(`{"new_state":%q}`, state))
}

// state is the worker's.
func (s *Server) state(t *testing.T) (state string) {
	t.Helper()
	s.get(t, "/worker/state", &state)
	return state
}

// current is the task that the worker has or had last.
func (s *Server) current(t *testing.T) string {
	t.Helper()
	var task struct {
		ID string `json:"task_id"`
	}
	s.get(t, "/worker/task", &task)
	return task.ID
}

func (s *Server) record(t *testing.T, task string) (r record) {
	t.Helper()
	s.get(t, "/tasks/"+task, &r)
	return r
}

func (s *Server) environment(t *testing.T) (e environment) {
	t.Helper()
	s.get(t, "/environment", &e)
	return e
}

// loaded waits for the end of a reload, while which nothing else may be asked. An
// environment without plans, as 1.21.1 can make when its old worker does not stop, is
// reloaded.
func (s *Server) loaded(t *testing.T) {
	t.Helper()
	s.initialized(t)
	var has struct{ Plans []struct{ Name string } }
	if s.get(t, "/plans", &has); len(has.Plans) == 0 {
		s.reload(t)
		s.initialized(t)
	}
}

func (s *Server) initialized(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !s.environment(t).Initialized; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the environment is not initialized after a minute")
		}
	}
}

// reaches waits until the worker is in a state, and reports whether it came to that.
func (s *Server) reaches(t *testing.T, state string) bool {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if s.state(t) == state {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// clear ends the plan that is active, if there is one.
func (s *Server) clear(t *testing.T) {
	t.Helper()
	s.put(t, "ABORTING") // refused if none is
	s.settle(t)
}
