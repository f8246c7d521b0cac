package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoad(t *testing.T) {
	t.Setenv("HOST", "http://i22-blueapi:80")
	t.Setenv("WORD", "secret")
	t.Setenv("ON", "true")
	for _, tt := range []struct {
		name  string
		files []string
		want  func(*Config)
	}{
		{"no file", nil, func(*Config) {}},
		{"a client's keys", []string{`
api:
  url: https://i22-blueapi.diamond.ac.uk
stomp:
  enabled: true
  url: tcp://broker:61613
  auth: {username: guest, password: "1234"}
auth_token_path: ~/token
logging:
  level: DEBUG
  graylog: {enabled: true, url: tcp://graylog:12201}
`}, func(c *Config) {
			*c = Config{
				URL: "https://i22-blueapi.diamond.ac.uk", AuthTokenPath: "~/token", LogLevel: "DEBUG",
				Stomp: Stomp{Enabled: true, URL: "tcp://broker:61613", Username: "guest", Password: "1234"},
			}
		}},
		{"a server's keys", []string{`
env: {sources: [{kind: deviceManager, module: x}]}
tiled: {enabled: true}
scratch: {root: /tmp}
oidc: {issuer: https://auth}
numtracker: {url: http://numtracker}
opa: {root: http://opa}
api: {cors: {origins: ["*"]}}
`}, func(*Config) {}},
		{"nulls", []string{"stomp: {auth: }\nauth_token_path: null\n"}, func(*Config) {}},
		{"merged", []string{
			"api: {url: http://a}\nstomp: {enabled: true, url: tcp://a:1}\n",
			"stomp: {url: tcp://b:2}\n",
			"api: {url: http://c}\n",
		}, func(c *Config) {
			c.URL, c.Stomp.Enabled, c.Stomp.URL = "http://c", true, "tcp://b:2"
		}},
		{"what is replaced is not looked at", []string{
			"api: {url: [nonsense]}\nlogging: nonsense\n",
			"api: {url: http://c}\nlogging: {level: ERROR}\n",
		}, func(c *Config) { c.URL, c.LogLevel = "http://c", "ERROR" }},
		{
			"variables",
			[]string{"api: {url: $HOST/x}\nauth_token_path: ${WORD}$$${NOT_SET}$NOT_SET$1\n"},
			func(c *Config) {
				c.URL, c.AuthTokenPath = "http://i22-blueapi:80/x", "secret$${NOT_SET}$NOT_SET$1"
			},
		},
		{"variables of any type", []string{"stomp: {enabled: $ON}\n"}, func(c *Config) { c.Stomp.Enabled = true }},
		{"no variables in quotes", []string{"auth_token_path: '$WORD'\n"}, func(c *Config) { c.AuthTokenPath = "$WORD" }},
		{
			"but in a password",
			[]string{"stomp: {auth: {username: '${word}', password: 'a${WORD}'}}\n"},
			func(c *Config) { c.Stomp.Username, c.Stomp.Password = "secret", "a${WORD}" },
		},
		{
			"truth in other spellings",
			[]string{"stomp: {enabled: 'Yes'}\n", "stomp: {enabled: 1}\n"},
			func(c *Config) { c.Stomp.Enabled = true },
		},
		{"aliases and merge keys", []string{`
tiled: &base {enabled: true, url: tcp://a:1}
stomp: {<<: *base, url: &u tcp://b:2}
auth_token_path: *u
`}, func(c *Config) {
			c.Stomp.Enabled, c.Stomp.URL, c.AuthTokenPath = true, "tcp://b:2", "tcp://b:2"
		}},
		{"JSON", []string{`{"api": {"url": "http://c"}}`}, func(c *Config) { c.URL = "http://c" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := Config{URL: "http://localhost:8000", LogLevel: "INFO", Stomp: Stomp{URL: "tcp://localhost:61613"}}
			tt.want(&want)
			got, err := Load("", write(t, tt.files)...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, file, want string }{
		{"empty", "", "f.yaml: the file is empty; leave it out"},
		{"only a comment", "# api\n", "f.yaml: the file is empty"},
		{"null", "---\n", "f.yaml:2: the file must hold keys, such as"},
		{"a list", "\n- 1\n", "f.yaml:2: the file must hold keys, such as"},
		{"not YAML", "api: [\n", "f.yaml:1: not valid YAML: "},
		{"a tab", "api:\n\turl: x\n", "f.yaml:2: not valid YAML: found character that cannot start any token"},
		{"two documents", "api: {}\n---\napi: {}\n", "f.yaml: more than one YAML document (---) in the file; keep one"},
		{"endless", "api: &a\n  url: *a\n", "f.yaml:1: nested too deeply"},
		{
			"unknown key", "api: {}\nnonesuch: 1\n",
			`f.yaml:2: unknown key "nonesuch" at the top; correct or remove it (known: api, auth_token_path, env, `,
		},
		{
			"unknown nested key", "stomp:\n  enabled: true\n  urls: 1\n",
			`f.yaml:3: unknown key "urls" in stomp; correct or remove it (known: auth, enabled, url)`,
		},
		{"not a section", "api: http://x\n", "f.yaml:1: api must be a section with keys (known: cors, url)"},
		{"null section", "api:\n", "f.yaml:1: api must be a section with keys (known: cors, url)"},
		{"not a truth value", "stomp:\n  enabled: maybe\n", `f.yaml:2: stomp.enabled is "maybe"; write true or false`},
		{"not text", "api:\n  url: 8000\n", "f.yaml:2: api.url must be text; put it in quotes if it is"},
		{
			"no scheme", "api:\n  url: localhost:8000\n",
			`f.yaml:2: api.url: "localhost:8000" has no scheme; write http://localhost:8000`,
		},
		{"another scheme", "api:\n  url: ftp://x\n", `f.yaml:2: api.url: "ftp://x" is not a URL of http or https`},
		{
			"variable not set", "api:\n  url: ${ADAMANT_NOT_SET}\n",
			`f.yaml:2: api.url: "${ADAMANT_NOT_SET}" is not a URL; is the variable set?`,
		},
		{"broker", "stomp:\n  url: broker\n", `f.yaml:2: stomp.url: "broker" is not the URL of a broker; write tcp://HOST:PORT`},
		{"half a login", "stomp:\n  auth:\n    username: a\n", "f.yaml:3: stomp.auth.password is missing"},
		{
			"password not set", "stomp:\n  auth:\n    username: a\n    password: ${adamant_not_set}\n",
			"f.yaml:4: stomp.auth.password: the environment variable ADAMANT_NOT_SET is not set",
		},
		{
			"level", "logging: {level: debug}\n",
			`f.yaml:1: logging.level: "debug" is not one of NOTSET, DEBUG, INFO, WARNING, ERROR, CRITICAL`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			paths := write(t, []string{tt.file})
			_, err := Load("", paths...)
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.Replace(err.Error(), paths[0], "f.yaml", 1)
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestLoadBounds(t *testing.T) {
	t.Parallel()
	var bomb strings.Builder
	bomb.WriteString("env:\n  a0: &a0 {k: v}\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&bomb, "  a%d: &a%d {%s}\n", i, i, strings.Repeat(fmt.Sprintf("? {<<: *a%d} : *a%d, ", i-1, i-1), 9))
	}
	for _, tt := range []struct{ name, file, want string }{
		{"large", strings.Repeat("# comment\n", 1<<20), "f.yaml: the file has more than 1048576 bytes"},
		{"bomb", bomb.String(), "f.yaml:3: more than 20000 values, those repeated by aliases (*) included"},
		{"many merge keys", manyMerges(1000), "f.yaml:1: more than 20000 values, those repeated by aliases (*) included"},
		{"deep", "env: " + strings.Repeat("{a: ", 200) + strings.Repeat("}", 200), "f.yaml:1: nested too deeply"},
		{"very deep", strings.Repeat("{a: ", 100_000), "f.yaml:1: not valid YAML: exceeded max depth of 10000"},
		{"many lines", strings.Repeat("a: 1\n", 5000) + "- 1\n", "f.yaml: not valid YAML: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parse("f.yaml", []byte(tt.file))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// manyMerges is a section of n keys that is put into another n times.
func manyMerges(n int) string {
	var b strings.Builder
	b.WriteString("env: &a {")
	for i := range n {
		fmt.Fprintf(&b, "k%d: 1, ", i)
	}
	b.WriteString("}\ntiled: {")
	for range n {
		b.WriteString("<<: *a, ")
	}
	b.WriteString("}\n")
	return b.String()
}

// TestLoadErrorLines checks that the line named is the one that is wrong.
func TestLoadErrorLines(t *testing.T) {
	t.Parallel()
	for file, line := range map[string]int{
		"api:\n  url: [\n":                     2,
		"api: {\n":                             1,
		"stomp: {}\napi: {url: b\ntiled: {}\n": 2,
		"api:\n  url: http://a\n url: c\n":     3,
		"env:\n  - a\n b\n":                    3,
		"api: {}\nenv: 'x\n\n\n":               2,
		"api: {}\nenv: *x\n":                   2,
		"api: {}\nenv: 'a' b\nopa: {}\n":       2,
		"api: {}\nenv: a: b\n":                 2,
		"api: {}\n- b\n":                       2,
		"- 1\napi: {}\n":                       2,
		"api: {}\n}\n":                         2,
		"api:\n\n  url: \xff\n":                3,
		"api:\n\n  url: a\x00b\n":              3,
		"api:\n\n  url: a\x7fb\n":              3,
	} {
		_, err := parse("f.yaml", []byte(file))
		if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("f.yaml:%d: ", line)) {
			t.Errorf("%q: %v; want line %d", file, err, line)
		}
	}
}

func TestLoadUnreadable(t *testing.T) {
	t.Parallel()
	_, err := Load("", "nonesuch.yaml")
	if err == nil || err.Error() != "Config file not found: nonesuch.yaml" {
		t.Errorf("got %v", err)
	}
	folder := t.TempDir()
	want := fmt.Sprintf("cannot read the config file: read %s: is a directory", folder)
	if _, err := Load("", folder); err == nil || err.Error() != want {
		t.Errorf("a folder: got %v", err)
	}
	if os.Geteuid() == 0 {
		return // may read anything
	}
	secret := write(t, []string{"api: {}\n"})[0]
	if err := os.Chmod(secret, 0); err != nil {
		t.Fatal(err)
	}
	want = fmt.Sprintf("cannot read the config file: open %s: permission denied", secret)
	if _, err := Load("", secret); err == nil || err.Error() != want {
		t.Errorf("a file of somebody else: got %v", err)
	}
}

// FuzzLoad checks that no file makes Load panic, or say something of no file.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{"a: &a [*a]", "<<: [{}, {}]\nb: !!str 1", "? {a: b}\n: c", "a: &a {<<: *a}"} {
		f.Add([]byte(seed))
	}
	for _, r := range recordings(f) {
		for _, file := range r.Files {
			f.Add([]byte(file))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parse("f.yaml", b)
		if err == nil {
			_, err = decode(merge(v, v))
		}
		if err != nil && !strings.HasPrefix(err.Error(), "f.yaml:") {
			t.Error(err)
		}
	})
}

func write(t *testing.T, files []string) []string {
	t.Helper()
	var paths []string
	for i, text := range files {
		path := filepath.Join(t.TempDir(), string(rune('a'+i))+".yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func TestPasswordsAreNotShown(t *testing.T) {
	for _, s := range []string{"ftp://me:secret@host", "http://me:secret@host/%zz", "http://me:secret@", "me:secret@host:8000"} {
		if err := checkURL(s); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", s, err)
		}
	}
}
