package sim_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// A suite holds a server to what was recorded of the real one. The recordings,
// in blueapi/testdata/http, were made in one session; their ids stand for those
// of the server at hand.
type suite struct {
	client *http.Client
	url    string
	dir    string            // takes the place of the recordings' /realserver
	venv   string            // and of their /venv
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
	s.packages(t)
	for _, a := range answers {
		method, path, _ := strings.Cut(a.request, " ")
		resp, b := s.send(t, method, path, map[string]string{"Content-Type": "application/json"}, a.body)
		if b = uuid.ReplaceAll(b, []byte("ID")); resp.StatusCode != a.status || string(b) != a.want {
			t.Errorf("%s %s\n     got %d %s\nexpected %d %s", a.request, a.body, resp.StatusCode, b, a.status, a.want)
		}
	}
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
	recorded = strings.ReplaceAll(recorded, "/venv", s.venv)
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
	if want := s.here(r.Response.Body); ordered(string(b)) != ordered(want) && !alike(name, string(b)) {
		t.Errorf("%s: body\n     got %s\nrecorded %s", name, b, want)
	}
	_, counted := r.Response.Headers["content-length"]
	if counted && resp.Request.Method != http.MethodHead && resp.Header.Get("Content-Length") != strconv.Itoa(len(b)) {
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

// alike knows the recordings whose body is a matter of luck: the state right after
// a command.
func alike(name, body string) bool {
	states := map[string]string{
		"109-abort": "ABORTING", "111-stop": "STOPPING", "113-stop-with-null-reason": "STOPPING",
		"114-pause": "PAUSING", "130-pause-2": "PAUSING",
	}
	return states[name] != "" && (body == `"`+states[name]+`"` || body == `"IDLE"` && states[name] != "PAUSING")
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

// plans compares the plans that the simulator has with those recorded. It lacks
// those of dodal but count.
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
	if want := 11; found < want {
		t.Errorf("%d plans are as recorded, expected %d", found, want)
	}
}

// packages compares those recorded, which are not all that there were.
func (s *suite) packages(t *testing.T) {
	type listing struct {
		Packages []map[string]any `json:"installed_packages"`
		Scratch  *bool            `json:"scratch_enabled"`
	}
	var recorded, got listing
	if err := json.Unmarshal([]byte(s.here(load(t, "017-python-environment").Response.Body)), &recorded); err != nil {
		t.Fatal(err)
	}
	_, b := s.send(t, "GET", "/python_environment", nil, "")
	if err := json.Unmarshal(b, &got); err != nil || got.Scratch == nil || *got.Scratch != *recorded.Scratch {
		t.Errorf("python_environment: %v %s", err, b)
	}
	for _, want := range recorded.Packages {
		if !slices.ContainsFunc(got.Packages, func(p map[string]any) bool { return maps.Equal(p, want) }) {
			t.Errorf("package %v is not as recorded", want)
		}
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
		s := suite{client: &http.Client{Transport: tr, CheckRedirect: noRedirect}, url: "http://blueapi.example:8000", dir: "/tmp", venv: "/venv"}
		s.conform(t)
	})
}

// TestRecordingsAreUsed makes sure that no recording was left behind.
func TestRecordingsAreUsed(t *testing.T) {
	used := map[string]bool{
		"006-plans": true, "017-python-environment": true, // compared in part
		"environment-reload-sequence": true, // TestReloadAsRecorded
	}
	for _, name := range brokenRecordings {
		used[name] = true
	}
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
