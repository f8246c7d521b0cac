package sim

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/adamant-go/adamant/blueapi"
)

// The version that the simulator is an image of.
const (
	Version    = "1.21.1" // of blueapi
	APIVersion = "1.5.0"  // of its REST API
)

// An endpoint is one method of one path. Its handler is as asynchronous or
// threaded as the real one: see process.
type endpoint struct {
	method, path string // a last element {} is a parameter
	open         bool   // to those without a token; and not under /api/v1
	handle       func(p *process, x *Exchange, param string) (Answer, error)
}

// newEndpoints returns them in the order of the real server, which shows in the
// Allow header of a 405: only the first method of a path is named.
func newEndpoints() []endpoint {
	return []endpoint{
		{method: "GET", path: "/healthz", open: true, handle: (*process).health},
		{method: "GET", path: "/environment", handle: (*process).getEnvironment},
		{method: "DELETE", path: "/environment", handle: (*process).deleteEnvironment},
		{method: "GET", path: "/plans", handle: (*process).getPlans},
		{method: "GET", path: "/plans/{}", handle: (*process).getPlan},
		{method: "GET", path: "/devices", handle: (*process).getDevices},
		{method: "GET", path: "/devices/{}", handle: (*process).getDevice},
		{method: "POST", path: "/tasks", handle: (*process).submitTask},
		{method: "DELETE", path: "/tasks/{}", handle: (*process).deleteTask},
		{method: "GET", path: "/tasks", handle: (*process).getTasks},
		{method: "PUT", path: "/worker/task", handle: (*process).startTask},
		{method: "GET", path: "/tasks/{}", handle: (*process).getTask},
		{method: "GET", path: "/worker/task", handle: (*process).getActiveTask},
		{method: "GET", path: "/worker/state", handle: (*process).getState},
		{method: "PUT", path: "/worker/state", handle: (*process).setState},
		{method: "GET", path: "/python_environment", handle: (*process).getPythonEnvironment},
		{method: "GET", path: "/config/oidc", open: true, handle: (*process).getOIDC},
		{method: "GET", path: "/logout", handle: (*process).logOut},
	}
}

func (e *endpoint) match(path string) (param string, ok bool) {
	if !e.open {
		path = strings.TrimPrefix(path, "/api/v1")
	}
	head, found := strings.CutSuffix(e.path, "{}")
	if !found {
		return "", path == e.path
	}
	param, ok = strings.CutPrefix(path, head)
	return param, ok && param != "" && !strings.Contains(param, "/")
}

// serve answers one request.
func (p *process) serve(x *Exchange) Answer {
	if err := p.inLoop(nil); err != nil {
		return Answer{End: Reset} // killed
	}
	a, err := p.route(x)
	if a.Status == http.StatusUnauthorized && isUpgrade(x) {
		return a // which is uvicorn's word, not blueapi's
	}
	switch {
	case err == nil:
	case errors.Is(err, errNotFound):
		a = detail(404, "Item not found")
	default:
		a = Answer{Status: 500, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, Body: []byte("Internal Server Error")}
	}
	if err := p.inLoop(nil); err != nil {
		return Answer{End: Reset}
	}
	a.Header.Set("Server", "uvicorn")
	if a.Status != 500 {
		a.Header.Set("X-Blueapi-Version", Version)
		a.Header.Set("X-Api-Version", APIVersion)
	}
	return a
}

func (p *process) route(x *Exchange) (Answer, error) {
	path := x.URL.Path
	if path == runPlanPath && isUpgrade(x) {
		return p.upgradeRunPlan(x), nil
	}
	var other *endpoint
	for i := range p.server.paths {
		e := &p.server.paths[i]
		param, ok := e.match(path)
		if ok && e.method == x.Method {
			if !e.open && !p.server.knows(x) {
				return unauthenticated(), nil
			}
			return e.handle(p, x, param)
		}
		if ok && other == nil {
			other = e
		}
	}
	if other != nil {
		a := detail(405, "Method Not Allowed")
		a.Header.Set("Allow", other.method)
		return a, nil
	}
	if path == "/" {
		if !p.server.knows(x) {
			return unauthenticated(), nil
		}
		return redirect(307, "/docs"), nil
	}
	if bare, ok := strings.CutSuffix(path, "/"); ok {
		for _, e := range p.server.paths {
			if _, ok := e.match(bare); ok {
				to := *x.URL
				to.Path = bare
				return redirect(307, absolute(x, &to)), nil
			}
		}
	}
	return detail(404, "Not Found"), nil
}

func absolute(x *Exchange, u *url.URL) string {
	to := url.URL{Scheme: "http", Host: x.Host, Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}
	return to.String()
}

func redirect(status int, to string) Answer {
	return Answer{Status: status, Header: http.Header{"Location": {to}}}
}

func jsonAnswer(status int, body []byte) Answer {
	return Answer{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}
}

func ok(v any) (Answer, error) { return jsonAnswer(200, marshal(v)), nil }

func detail(status int, text string) Answer {
	return jsonAnswer(status, marshal(struct {
		Detail string `json:"detail"`
	}{text}))
}

type taskID struct {
	ID *string `json:"task_id"`
}

func (p *process) health(*Exchange, string) (Answer, error) {
	if err := p.inThread(); err != nil {
		return Answer{}, err
	}
	return ok(struct {
		Status string `json:"status"`
	}{"ok"})
}

func (p *process) getEnvironment(*Exchange, string) (Answer, error) {
	if err := p.inThread(); err != nil {
		return Answer{}, err
	}
	return ok(p.environment())
}

func (p *process) deleteEnvironment(*Exchange, string) (Answer, error) {
	env := p.environment()
	if env.Initialized || env.ErrorMessage != nil {
		p.server.wait.Go(func() { _ = p.reload() })
	}
	return ok(blueapi.Environment{ID: env.ID})
}

// threaded makes a call into the worker's process from a thread.
func (p *process) threaded(what need, f func(*worker) error) error {
	if err := p.inThread(); err != nil {
		return err
	}
	return p.call(what, f)
}

func (p *process) getPlans(*Exchange, string) (Answer, error) {
	var v struct {
		Plans []blueapi.Plan `json:"plans"`
	}
	err := p.threaded(theContext, func(*worker) error {
		for i := range p.server.plans {
			v.Plans = append(v.Plans, p.server.plans[i].wire())
		}
		return nil
	})
	if err != nil {
		return Answer{}, err
	}
	return ok(v)
}

func (p *process) getPlan(_ *Exchange, name string) (Answer, error) {
	var plan *Plan
	if err := p.threaded(theContext, func(*worker) (err error) {
		plan, err = p.server.plan(name)
		return err
	}); err != nil {
		return Answer{}, err
	}
	return ok(plan.wire())
}

func (p *process) getDevices(*Exchange, string) (Answer, error) {
	var v struct {
		Devices []blueapi.Device `json:"devices"`
	}
	if err := p.threaded(theContext, func(*worker) error { return nil }); err != nil {
		return Answer{}, err
	}
	devices := demoDevices()
	v.Devices = []blueapi.Device{devices["stage"], devices["det"]}
	return ok(v)
}

func (p *process) getDevice(_ *Exchange, name string) (Answer, error) {
	d, known := demoDevices()[name]
	if err := p.threaded(theContext, func(*worker) error {
		if !known {
			return errNotFound
		}
		return nil
	}); err != nil {
		return Answer{}, err
	}
	return ok(d)
}

func (p *process) submitTask(x *Exchange, _ string) (Answer, error) {
	body, bad := readBody(x, 2, taskRequest())
	if bad != nil {
		return *bad, nil
	}
	id, wrong, err := p.submit(body, func(f func(*worker) error) error { return p.threaded(theWorker, f) })
	if err != nil {
		return Answer{}, err
	}
	if wrong != nil {
		return unprocessable(wrong), nil
	}
	a := jsonAnswer(201, marshal(taskID{&id}))
	a.Header.Set("Location", absolute(x, x.URL)+"/"+id)
	return a, nil
}

// submit makes a task of a request, in a call, or says what is wrong with its
// arguments.
func (p *process) submit(request value, call func(func(*worker) error) error) (id string, wrong []value, err error) {
	name, _ := request.field("name")
	params, given := request.field("params")
	if !given {
		params.kind = object
	}
	session, _ := request.field("instrument_session")
	err = call(func(w *worker) error {
		plan, err := p.server.plan(name.text)
		if err != nil {
			return err
		}
		args, bad := plan.arguments(params)
		for _, b := range bad {
			wrong = append(wrong, b.plan())
		}
		if wrong != nil {
			return nil
		}
		id = w.submit(plan, args, blueapi.TaskRequest{Params: params.raw(), InstrumentSession: session.text}, p.server.user())
		return nil
	})
	return id, wrong, err
}

// lookUp sees, in the event loop, whether there is such a task: that is how the
// server asks for permission. Everybody waits for it.
func (p *process) lookUp(id string) error {
	return p.inLoop(func() error {
		return p.call(theWorker, func(w *worker) error {
			_, err := w.task(id)
			return err
		})
	})
}

func (p *process) getTask(_ *Exchange, id string) (Answer, error) {
	if err := p.lookUp(id); err != nil {
		return Answer{}, err
	}
	var t record
	if err := p.threaded(theWorker, func(w *worker) (err error) {
		t, err = w.task(id)
		return err
	}); err != nil {
		return Answer{}, err
	}
	return ok(t)
}

func (p *process) deleteTask(_ *Exchange, id string) (Answer, error) {
	if err := p.lookUp(id); err != nil {
		return Answer{}, err
	}
	if err := p.threaded(theWorker, func(w *worker) error { return w.clear(id) }); err != nil {
		return Answer{}, err
	}
	return ok(taskID{&id})
}

func (p *process) getTasks(x *Exchange, _ string) (Answer, error) {
	word, bad := choice(x, "task_status", "PENDING", "COMPLETE", "ERROR", "RUNNING")
	if bad != nil {
		return *bad, nil
	}
	status := blueapi.TaskStatus(word)
	var v struct {
		Tasks []record `json:"tasks"`
	}
	if err := p.inLoop(func() error {
		return p.call(theWorker, func(w *worker) error {
			v.Tasks = w.list(status)
			return nil
		})
	}); err != nil {
		return Answer{}, err
	}
	return ok(v)
}

func (p *process) getActiveTask(*Exchange, string) (Answer, error) {
	var v taskID
	if err := p.threaded(theWorker, func(w *worker) error {
		if id, _ := w.active(); id != "" {
			v.ID = &id
		}
		return nil
	}); err != nil {
		return Answer{}, err
	}
	return ok(v)
}

// startTask makes three calls, as the real one does: whether there is the task,
// whether the worker is active, and the order to begin. Between them others get
// their turn.
func (p *process) startTask(x *Exchange, _ string) (Answer, error) {
	body, bad := readBody(x, 2, workerTask())
	if bad != nil {
		return *bad, nil
	}
	id, _ := body.field("task_id")
	if id.text == "" {
		return detail(422, "No task id provided"), nil
	}
	if err := p.lookUp(id.text); err != nil {
		return Answer{}, err
	}
	var ended bool
	if err := p.threaded(theWorker, func(w *worker) error {
		_, ended = w.active()
		return nil
	}); err != nil {
		return Answer{}, err
	}
	if !ended {
		return detail(409, "Worker already active"), nil
	}
	if err := p.call(theWorker, func(w *worker) error { return w.begin(id.text, traceOf(x)) }); err != nil {
		return Answer{}, err
	}
	return ok(taskID{&id.text})
}

func (p *process) getState(*Exchange, string) (Answer, error) {
	if err := p.inThread(); err != nil {
		return Answer{}, err
	}
	s, err := p.workerState()
	if err != nil {
		return Answer{}, err
	}
	return ok(s)
}
