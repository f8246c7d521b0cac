package sim_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// A suite holds a server to what was recorded of the real one. The recordings,
// in blueapi/testdata/http, were made in one session; their ids stand for those
// of the server at hand.
type suite struct {
	client *http.Client
	url    string
	dir    string            // takes the place of the recordings' /realserver
	ids    map[string]string // of the recording, to those of the server
}

type recording struct {
	Request struct {
		Method, Path string
		Headers      map[string]string
		Body         *string
	}
	Response struct {
		Status  int
		Headers map[string]string
		Body    string
	}
}

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
func idle() []step {
	return []step{{do: func(t *testing.T, s *suite) {
		for range 300 {
			// Asking for the task also waits for its record to be closed.
			time.Sleep(100 * time.Millisecond)
			if _, b := s.send(t, "GET", "/worker/state", nil, ""); string(b) == `"IDLE"` {
				time.Sleep(100 * time.Millisecond)
				return
			}
		}
		t.Fatal("the plan does not end")
	}}}
}

// run starts a task whose start was not recorded, and waits for its end.
func run(id string) []step {
	return append([]step{{do: func(t *testing.T, s *suite) {
		resp, b := s.send(t, "PUT", "/worker/task", map[string]string{"Content-Type": "application/json"}, s.here(`{"task_id":"`+id+`"}`))
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("starting %s: %s %s", id, resp.Status, b)
		}
	}}}, idle()...)
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
		replay("009-plan-unknown", "010-devices", "011-devices-v1", "012-device", "013-device-dotted", "014-device-unknown"),
	}},
	{"paths and methods", [][]step{
		replay("026-root-redirect", "027-trailing-slash", "028-trailing-slash-post", "029-not-found",
			"030-v1-healthz-not-found", "031-v1-oidc-not-found", "032-v1-root-not-found", "033-v2-get-not-found",
			"034-method-not-allowed", "035-method-not-allowed-head", "036-method-not-allowed-delete-tasks", "037-options"),
	}},
	{"submit", [][]step{
		replay("038-submit", "039-submit-v1", "040-submit-no-params", "041-submit-odd-session",
			"043-submit-unknown-plan", "044-submit-missing-param", "045-submit-extra-param", "046-submit-wrong-type",
			"052-submit-body-missing-fields", "053-submit-body-missing-session", "054-submit-body-extra-field",
			"055-submit-body-params-not-object", "056-submit-body-null", "057-submit-body-list",
			"058-submit-body-broken-json", "059-submit-body-wrong-content-type", "060-submit-body-none"),
	}},
	{"tasks", [][]step{
		replay("062-tasks-bad-status", "063-task-pending", "064-task-delete-pending", "065-task-delete-again",
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
	{"slow start", [][]step{
		submit(slow, "slow_start", `{"seconds":7,"path":"/realserver/slow.txt"}`),
		replay("139-start-slow", "140-task-slow-not-started", "141-start-slow-again"),
		{{do: func(*testing.T, *suite) { time.Sleep(3 * time.Second) }}},
		idle(),
		replay("142-task-slow-ended"),
	}},
	{"delete a running task", [][]step{
		submit(deleted, "nap", `{"seconds":3}`), submit(after, "returns", `{"value":1}`),
		{{do: func(t *testing.T, s *suite) {
			s.send(t, "PUT", "/worker/task", map[string]string{"Content-Type": "application/json"}, s.here(`{"task_id":"`+deleted+`"}`))
		}}},
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

func (s *suite) conform(t *testing.T) {
	s.ids = make(map[string]string)
	for _, c := range cases {
		t.Logf("case %s", c.name)
		for _, step := range slices.Concat(c.steps...) {
			if step.do != nil {
				step.do(t, s)
				continue
			}
			s.replay(t, step.recording)
		}
	}
	s.plans(t)
	for _, a := range answers {
		resp, b := s.send(t, "POST", "/tasks", map[string]string{"Content-Type": "application/json"}, a.body)
		if b = uuid.ReplaceAll(b, []byte("ID")); resp.StatusCode != a.status || string(b) != a.want {
			t.Errorf("POST of %s\n     got %d %s\nexpected %d %s", a.body, resp.StatusCode, b, a.status, a.want)
		}
	}
}

// broken is what the server says of a body that is not JSON.
func broken(pos, msg string) string {
	return `{"detail":[{"type":"json_invalid","loc":["body",` + pos + `],"msg":"JSON decode error","input":{},"ctx":{"error":"` + msg + `"}}]}`
}

// answers of the real server to POST /tasks that were not recorded.
var answers = []struct {
	body   string
	status int
	want   string
}{
	{`{"a":1,}`, 422, broken("7", "Expecting property name enclosed in double quotes")},
	{`{"a" 1}`, 422, broken("5", "Expecting ':' delimiter")},
	{`[1 2]`, 422, broken("3", "Expecting ',' delimiter")},
	{`{"a":1} x`, 422, broken("8", "Extra data")},
	{`"abc`, 422, broken("0", "Unterminated string starting at")},
	{"{\"a\":\"\t\"}", 422, broken("6", "Invalid control character at")},
	{`{"a":"\x"}`, 422, broken("6", `Invalid \\escape`)},
	{`{"a":"\u12"}`, 422, broken("7", `Invalid \\uXXXX escape`)},
	{`nul`, 422, broken("0", "Expecting value")},
	{`  `, 422, broken("2", "Expecting value")},
	{`-`, 422, broken("0", "Expecting value")},
	{`1.`, 422, broken("1", "Extra data")},
	{request("nap", `{"seconds":"1.5"}`), 201, `{"task_id":"ID"}`},
	{request("fail", `{"message":"\u00e9\ud83d\ude00"}`), 201, `{"task_id":"ID"}`},
	{request("append_line", `{"path":"a","line":"b","seconds":true,"last":null}`), 201, `{"task_id":"ID"}`},
	{request("append_line", `{"path":"a","line":"b","last":1}`), 422, `{"detail":[` +
		`{"loc":["body","params","last","str"],"msg":"Input should be a valid string","type":"string_type","input":1},` +
		`{"loc":["body","params","last","none"],"msg":"Input should be None","type":"none_required","input":1}]}`},
	{request("nap", `{"seconds":[1]}`), 422, `{"detail":[` +
		`{"loc":["body","params","seconds"],"msg":"Input should be a valid number","type":"float_type","input":[1]}]}`},
	{request("nap", `{"seconds":"x","b":1,"a":2.50}`), 422, `{"detail":[` +
		`{"loc":["body","params","seconds"],"msg":"Input should be a valid number, unable to parse string as a number","type":"float_parsing","input":"x"},` +
		`{"loc":["body","params","b"],"msg":"Extra inputs are not permitted","type":"extra_forbidden","input":1},` +
		`{"loc":["body","params","a"],"msg":"Extra inputs are not permitted","type":"extra_forbidden","input":2.5}]}`},
	{`{"name":"nap","params":{"seconds":1},"instrument_session":"a","name":"fail"}`, 422, `{"detail":[` +
		`{"loc":["body","params","message"],"msg":"Field required","type":"missing","input":{"seconds":1}}]}`},
}

func request(plan, params string) string {
	return `{"name":"` + plan + `","params":` + params + `,"instrument_session":"cm12345-1"}`
}

func load(t *testing.T, name string) (r recording) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "http", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(name, err)
	}
	return r
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// here puts what is of this server in the place of what was recorded.
func (s *suite) here(recorded string) string {
	recorded = strings.ReplaceAll(recorded, "/realserver", s.dir)
	return uuid.ReplaceAllStringFunc(recorded, func(id string) string {
		if ours := s.ids[id]; ours != "" {
			return ours
		}
		return id
	})
}

// learn takes the ids of an answer for those at the same places of the recorded
// one, if they are new.
func (s *suite) learn(recorded, got string) {
	theirs, ours := uuid.FindAllString(recorded, -1), uuid.FindAllString(got, -1)
	for i := range min(len(theirs), len(ours)) {
		if s.ids[theirs[i]] == "" {
			s.ids[theirs[i]] = ours[i]
		}
	}
}

func (s *suite) send(t *testing.T, method, path string, headers map[string]string, body string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

func (s *suite) replay(t *testing.T, name string) {
	t.Helper()
	r := load(t, name)
	body := ""
	if r.Request.Body != nil {
		body = s.here(*r.Request.Body)
	}
	resp, b := s.send(t, r.Request.Method, s.here(r.Request.Path), r.Request.Headers, body)
	s.learn(r.Response.Body, string(b))
	if resp.StatusCode != r.Response.Status {
		t.Errorf("%s: status %d, recorded %d", name, resp.StatusCode, r.Response.Status)
	}
	if want := s.here(r.Response.Body); ordered(string(b)) != ordered(want) {
		t.Errorf("%s: body\n     got %s\nrecorded %s", name, b, want)
	}
	if resp.Request.Method != http.MethodHead && resp.Header.Get("Content-Length") != strconv.Itoa(len(b)) {
		t.Errorf("%s: content-length %s of %d", name, resp.Header.Get("Content-Length"), len(b))
	}
	for k, want := range r.Response.Headers {
		got := resp.Header.Get(k)
		switch k {
		case "content-length":
			continue // ids and paths may differ in length
		case "location":
			want = s.here(regexp.MustCompile(`^http://[^/]*`).ReplaceAllString(want, s.url))
		}
		if got != want {
			t.Errorf("%s: %s: %q, recorded %q", name, k, got, want)
		}
	}
	for k := range resp.Header {
		if _, ok := r.Response.Headers[strings.ToLower(k)]; !ok && k != "Date" {
			t.Errorf("%s: %s was not recorded", name, k)
		}
	}
}

// ordered puts a list of devices into an order, for the real server's order
// changes from one environment to the next.
func ordered(body string) string {
	list, ok := strings.CutPrefix(body, `{"devices":[`)
	if !ok {
		return body
	}
	devices := strings.SplitAfter(strings.TrimSuffix(list, "]}")+",", "]},")
	slices.Sort(devices)
	return strings.Join(devices, "")
}

// plans compares the plans that the simulator has with those recorded.
func (s *suite) plans(t *testing.T) {
	type listing struct{ Plans []json.RawMessage }
	var recorded, got listing
	if err := json.Unmarshal([]byte(load(t, "006-plans").Response.Body), &recorded); err != nil {
		t.Fatal(err)
	}
	_, b := s.send(t, "GET", "/plans", nil, "")
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, want := range recorded.Plans {
		for _, p := range got.Plans {
			if planName(p) == planName(want) {
				found++
				if !bytes.Equal(p, want) {
					t.Errorf("plan\n     got %s\nrecorded %s", p, want)
				}
			}
		}
	}
	if found < 7 {
		t.Errorf("%d plans are as recorded", found)
	}
}

func planName(p json.RawMessage) string {
	var v struct{ Name string }
	_ = json.Unmarshal(p, &v)
	return v.Name
}

// noRedirect shows redirects as they are.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func TestConformance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server sim.Server
		defer server.Close()
		tr := &http.Transport{DialContext: server.DialContext}
		defer tr.CloseIdleConnections()
		s := suite{client: &http.Client{Transport: tr, CheckRedirect: noRedirect}, url: "http://blueapi.example:8000", dir: "/tmp"}
		s.conform(t)
	})
}

// TestRecordingsAreUsed makes sure that no recording was left behind.
func TestRecordingsAreUsed(t *testing.T) {
	used := map[string]bool{"006-plans": true}
	for _, c := range cases {
		for _, step := range slices.Concat(c.steps...) {
			used[step.recording] = true
		}
	}
	files, _ := filepath.Glob(filepath.Join("..", "testdata", "http", "*.json"))
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".json"); !used[name] {
			t.Errorf("%s is used by no case", name)
		}
	}
}
