package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/adamant-go/adamant/retry"
)

// kind is what is to be done with a request.
type kind int

const (
	// other is a path of which nothing is known: its request is passed on, and its
	// answer streamed.
	other kind = iota
	read
	submit
	deleteTask
	startTask
	setState
	reload
	runPlan
)

// route is what a request asks for.
type route struct {
	kind   kind
	name   string // of the operation, such as "GET /tasks/{id}"
	prefix string // of the paths that the caller uses: "" or versionPrefix
	bare   string // the path without it
	id     string // of the task that the path names; "" if it names none
	// free requests are not held back by a reload, which they cannot disturb.
	free bool
}

// versionPrefix is before the paths of blueapi since 1.17; they are there without too.
const versionPrefix = "/api/v1"

const runPlanPath = "/api/v2/run_plan"

// routeOf finds out what a request asks for. It goes by the path after its escapes are
// undone, as blueapi's web server does: to that %2F is a slash.
func routeOf(r *http.Request) route {
	path := r.URL.Path
	upgrade := isUpgrade(r)
	if path == runPlanPath && upgrade {
		return route{kind: runPlan, name: "GET " + runPlanPath}
	}
	rt := route{bare: path}
	if bare, ok := strings.CutPrefix(path, versionPrefix); ok && strings.HasPrefix(bare, "/") {
		rt.prefix, rt.bare = versionPrefix, bare
	}
	switch {
	case upgrade:
	case r.Method == http.MethodGet: // a body of it is not heeded by the server
		rt.read()
	case r.Method == http.MethodPost && rt.bare == "/tasks":
		rt.kind = submit
	case r.Method == http.MethodDelete && rt.bare == "/environment":
		rt.kind = reload
	case r.Method == http.MethodDelete && rt.item("/tasks/", "{id}"):
		rt.kind = deleteTask
	case r.Method == http.MethodPut && rt.bare == "/worker/task":
		rt.kind = startTask
	case r.Method == http.MethodPut && rt.bare == "/worker/state":
		rt.kind = setState
	}
	if rt.name == "" {
		rt.name = rt.bare
	}
	rt.name = r.Method + " " + rt.name
	rt.free = rt.free || r.Method == http.MethodOptions
	return rt
}

// isUpgrade reports whether a request is to open a WebSocket. All else that is offered by
// Upgrade is declined by not being passed on, as a server may: Java's HttpClient offers
// HTTP/2 with any request, and a server that took it would be spoken to past the gateway.
func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") &&
		slices.ContainsFunc(r.Header["Connection"], func(value string) bool {
			return slices.ContainsFunc(strings.Split(value, ","), func(option string) bool {
				return strings.EqualFold(strings.TrimSpace(option), "upgrade")
			})
		})
}

// operation is the name of what a request asks for.
func (rt *route) operation() string {
	if rt.kind == other {
		return "other"
	}
	return rt.name
}

// read recognises what is read.
func (rt *route) read() {
	switch rt.bare {
	case "/environment":
		rt.kind, rt.free = read, true
	case "/plans", "/devices", "/tasks", "/worker/task", "/worker/state", "/python_environment":
		rt.kind = read
	case "/healthz":
		rt.free = rt.prefix == ""
		fallthrough
	case "/config/oidc":
		if rt.prefix == "" { // there is no versioned form
			rt.kind = read
		}
	default:
		if rt.item("/plans/", "{name}") || rt.item("/devices/", "{name}") || rt.item("/tasks/", "{id}") {
			rt.kind = read
		}
	}
}

// item recognises a path with one more step.
func (rt *route) item(under, what string) bool {
	step, ok := strings.CutPrefix(rt.bare, under)
	if !ok || step == "" || strings.Contains(step, "/") {
		return false
	}
	rt.name = under + what
	if under == "/tasks/" {
		rt.id = step
	}
	return true
}

// isStraight reports whether a path can only mean what it says. One with empty steps,
// dots for steps or backslashes is none of blueapi's, but a proxy before it may take it
// for one that is, which then would not have been dealt with as such.
func isStraight(path string) bool {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok || strings.ContainsRune(path, '\\') {
		return false
	}
	for rest != "" {
		var step string
		step, rest, _ = strings.Cut(rest, "/")
		if step == "" || step == "." || step == ".." {
			return false
		}
	}
	return true
}

// safetyOf says what may be repeated of requests of which nothing is known.
func safetyOf(r *http.Request) retry.Safety {
	if isUpgrade(r) {
		return retry.Once
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return retry.Safe
	}
	return retry.Once
}

// taskPath is the path of a task at the server, in the form that the caller uses.
func (rt *route) taskPath(id string) string { return rt.prefix + "/tasks/" + url.PathEscape(id) }
