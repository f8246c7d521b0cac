package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLoadGateway(t *testing.T) {
	t.Setenv("PASS", "hidden")
	path := write(t, []string{`
upstream:
  - url: http://a
    tls: {ca: ca.pem}
    stomp: {url: "tcp://b:1", login: me, passcode: "${pass}", tls: {}}
    listen: {http: ":1", stomp: {address: ":2", tls: {cert: c, key: k}}}
  - {url: $PASS://c, alias: "off", listen: {http: {address: ":3"}}}
timeouts: {wait: 90s}
limits: {waiting: 7}
`})[0]
	_, err := LoadGateway(path)
	if err == nil || !strings.HasSuffix(err.Error(), `:7: upstream[1].url: "hidden://c" is not a URL of http or https, such as http://localhost:8000`) {
		t.Errorf("%v", err)
	}
	t.Setenv("PASS", "https")
	got, err := LoadGateway(path)
	if err != nil {
		t.Fatal(err)
	}
	at := func(line string) string { return path + ":" + line }
	want := Gateway{
		Upstreams: []Upstream{
			{
				URL: "http://a", TLS: TLS{CA: "ca.pem"},
				Broker: Broker{URL: "tcp://b:1", Login: "me", Passcode: "https", Secure: true},
				HTTP:   Listener{Address: ":1", Where: at("6")},
				Stomp:  Listener{Address: ":2", TLS: TLS{Cert: "c", Key: "k"}, Where: at("6")},
			},
			{URL: "https://c", Alias: "off", HTTP: Listener{Address: ":3", Where: at("7")}},
		},
		Timeouts: Timeouts{Wait: 90 * time.Second}, Limits: Limits{Waiting: 7},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadGatewayErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ file, want string }{
		{"", "f.yaml: the file is empty; leave it out, or write for example\n    upstream:"},
		{"- 1\n", "f.yaml:1: the file must hold keys, such as\n    upstream:"},
		{"upstreams: []\n", `f.yaml:1: unknown key "upstreams" at the top; correct or remove it (known: admin, expose, `},
		{"upstream: []\n", "f.yaml:1: upstream names no server"},
		{"upstream:\n  - 1\n", "f.yaml:2: upstream[0] must be a section with keys"},
		{"upstream:\n  stomp: {login: a}\n", "f.yaml:2: upstream.stomp.url is missing"},
		{"upstream:\n  stomp: {url: 'tcp://u:p@h:1'}\n", "f.yaml:2: upstream.stomp.url has a user; write login and passcode"},
		{"upstream:\n  stomp: {url: 'tcp://h:1', login: a}\n", "f.yaml:2: upstream.stomp.passcode is missing"},
		{"upstream:\n  stomp: {url: 'tcp://h:1', login: a, passcode: '${adamant_not_set}'}\n", "f.yaml:2: upstream.stomp.passcode: the environment variable ADAMANT_NOT_SET is not set"},
		{"upstream:\n  tls: {cert: a}\n", "f.yaml:2: upstream.tls: cert and key come together"},
		{"upstream:\n  listen: {http: {tls: {}}}\n", "f.yaml:2: upstream.listen.http.address is missing"},
		{"upstream:\n  listen: {http: {address: a, login: b}}\n", `f.yaml:2: unknown key "login" in upstream.listen.http`},
		{"upstream:\n  alias: 'maybe'\n", `f.yaml:2: upstream.alias is "maybe"; write one of on, off, auto`},
		{"timeouts: {drain: 30}\n", `f.yaml:1: timeouts.drain is "30"; write a time such as 90s or 10m`},
		{"timeouts: {drain: 0s}\n", `f.yaml:1: timeouts.drain is "0s"`},
		{"limits: {body: 1k}\n", `f.yaml:1: limits.body is "1k"; write a number such as 1000`},
		{"limits: {body: [1]}\n", `f.yaml:1: limits.body is ""`},
		{"journal: maybe\n", `f.yaml:1: journal is "maybe"; write true or false`},
	} {
		paths := write(t, []string{tt.file})
		_, err := LoadGateway(paths[0])
		if err == nil || !strings.HasPrefix(strings.Replace(err.Error(), paths[0], "f.yaml", 1), tt.want) {
			t.Errorf("%q: %v", tt.file, err)
		}
	}
}
