package config

import (
	"encoding/json"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recorded is what blueapi makes of some files, recorded by testdata/record.py.
type recorded struct {
	Name    string
	Files   []string
	Latin1  bool
	Env     map[string]string
	Host    string
	Blueapi struct {
		Refused       string
		URL           string
		Stomp         Stomp
		AuthTokenPath string `json:"auth_token_path"`
		Level         string
	}
}

// different are the cases in which we knowingly differ from blueapi.
var different = map[string]string{
	// Refused here. What it cannot mean is better said at once.
	"empty list at the top":               "read as an empty file, which is refused by blueapi too",
	"enabled: 1.0":                        "a truth value that nobody writes",
	"enabled: 0.0":                        "the same",
	"enabled: 0x1":                        "the same",
	"enabled: 0b1":                        "the same",
	"enabled: 01":                         "the same",
	"enabled: 1_":                         "the same",
	"url: http:///x":                      "a browser's reading of it makes x the host",
	"url: http:a":                         "the same",
	"url: http:/a":                        "the same",
	`url: http:\\a`:                       "the same",
	"url: 'http://a\\tb'":                 "the same",
	"url: \"http://a\\tb\"":               "the same",
	"url: http://a/%zz":                   "not a URL by RFC 3986",
	"stomp.url: tcp:b:1":                  "no host: blueapi fails when it connects",
	"stomp.url: tcp://":                   "the same",
	"stomp.url: tcp:///x":                 "the same",
	"escape in quotes":                    "the parser does not know \\/",
	"JSON with an escaped slash":          "the same",
	"path: !!python/name:os.sep":          "it would run what the file says",
	"path: !!python/object/apply:str [a]": "the same",

	// Accepted here.
	"null env":                         "a setting of the server's, which is not looked into",
	"null tiled":                       "the same",
	"deep":                             "the same",
	"url: 'http://a<b'":                "fails when it is used",
	"url: http://256.1.1.1":            "the same",
	"url: http://aaaaaaaaaaaaa...2107": "the same",
	"url: http://a/aaaaaaaaaaa...2109": "a length that HTTP does not limit",
	"anchor defined twice":             "allowed by YAML 1.2",
	"tab after a colon":                "the same",
	"tab at the end":                   "the same",
	"tab before a comment":             "the same",
	"JSON":                             "the same: blueapi takes no tabs",

	// Read in another way.
	"path: !!str": "no path, rather than the current folder",
}

func recordings(t testing.TB) (all []recorded) {
	t.Helper()
	b, err := os.ReadFile("testdata/blueapi.json")
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAsBlueapi(t *testing.T) {
	seen := make(map[string]bool)
	for _, tt := range recordings(t) {
		seen[tt.Name] = true
		t.Run(tt.Name, func(t *testing.T) {
			for name, text := range tt.Env {
				t.Setenv(name, text)
			}
			got, err := Load(tt.Host, tt.write(t)...)
			diff := tt.diff(got, err)
			switch reason := different[tt.Name]; {
			case diff != "" && reason == "":
				t.Error(diff)
			case diff == "" && reason != "":
				t.Error("does not differ")
			}
		})
	}
	for name := range different {
		if !seen[name] {
			t.Errorf("no case %q", name)
		}
	}
}

// diff says how what was read differs from what blueapi reads.
func (r recorded) diff(got Config, err error) string {
	type refusal struct{ Refused bool }
	if err != nil || r.Blueapi.Refused != "" {
		if diff := cmp.Diff(refusal{r.Blueapi.Refused != ""}, refusal{err != nil}); diff != "" {
			return diff + r.Blueapi.Refused + " (blueapi)\n" + cmp.Diff(nil, err)
		}
		return ""
	}
	got.URL = pydantic(got.URL)
	got.Stomp.URL = strings.Replace(got.Stomp.URL, "TCP:", "tcp:", 1)
	return cmp.Diff(Config{
		URL: r.Blueapi.URL, Stomp: r.Blueapi.Stomp,
		AuthTokenPath: r.Blueapi.AuthTokenPath, LogLevel: r.Blueapi.Level,
	}, got)
}

func (r recorded) write(t *testing.T) []string {
	t.Helper()
	files := r.Files
	if r.Latin1 {
		files = nil
		for _, text := range r.Files {
			var b []byte
			for _, c := range text {
				b = append(b, byte(c))
			}
			files = append(files, string(b))
		}
	}
	return write(t, files)
}

// pydantic writes a URL as pydantic does.
func pydantic(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	u.Host = strings.ToLower(u.Host)
	switch u.Scheme + " " + u.Port() {
	case "http 80", "https 443", "http ", "https ":
		u.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
	}
	if u.Host == "bücher.de" {
		u.Host = "xn--bcher-kva.de"
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String()
}
