package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPointedTo(t *testing.T) {
	t.Parallel()
	const (
		url    = "http://127.0.0.1:1"
		broker = "tcp://127.0.0.1:2"
	)
	for _, tt := range []struct{ name, file, want string }{
		{
			"usual",
			"# i22\napi:\n  url: https://i22-blueapi.diamond.ac.uk  # the server\n  cors: {origins: ['*']}\n\nstomp:\n    enabled: yes\n    url:   tcp://broker:61613\n    auth: {username: guest, password: $PASSWORD}\nauth_token_path: ~/token\n",
			"# i22\napi:\n  url: \"http://127.0.0.1:1\"  # the server\n  cors: {origins: ['*']}\n\nstomp:\n    enabled: yes\n    url:   \"tcp://127.0.0.1:2\"\n    auth: {username: guest, password: $PASSWORD}\nauth_token_path: ~/token\n",
		},
		{"flow", "api: {url: http://x, cors: {}}\n", "api: {url: \"http://127.0.0.1:1\", cors: {}}\n"},
		{"JSON", `{"stomp": {"url": "tcp://b:1", "enabled": true}, "api": {"url": "http://x"}}`, `{"stomp": {"url": "tcp://127.0.0.1:2", "enabled": true}, "api": {"url": "http://127.0.0.1:1"}}`},
		{"single quotes", "api:\n  url: 'http://x' # 'c'\n", "api:\n  url: \"http://127.0.0.1:1\" # 'c'\n"},
		{"double quotes", "api:\n  url: \"http://x\"\n", "api:\n  url: \"http://127.0.0.1:1\"\n"},
		{"a variable", "api:\n  url: http://$HOST:80/x\n", "api:\n  url: \"http://127.0.0.1:1\"\n"},
		{"other variables", "api: {url: http://x}\nauth_token_path: $HOME/t\ntiled: {x: '$HOME', y: $A}\n", "api: {url: \"http://127.0.0.1:1\"}\nauth_token_path: $HOME/t\ntiled: {x: '$HOME', y: $A}\n"},
		{"quoted keys", "'api':\n  \"url\": http://x\n", "'api':\n  \"url\": \"http://127.0.0.1:1\"\n"},
		{"Windows lines", "api:\r\n  url: http://x\r\nstomp:\r\n  enabled: true\r\n", "api:\r\n  url: \"http://127.0.0.1:1\"\r\nstomp:\r\n  \"url\": \"tcp://127.0.0.1:2\"\n  enabled: true\r\n"},
		{"a mark of byte order", "\ufeffapi:\n  url: http://x\n", "\ufeffapi:\n  url: \"http://127.0.0.1:1\"\n"},
		{"other letters before it", "{auth_token_path: 'ü€𝛼', api: {url: http://x}}", "{auth_token_path: 'ü€𝛼', api: {url: \"http://127.0.0.1:1\"}}"},
		{"no newline at the end", "api:\n  url: http://x", "api:\n  url: \"http://127.0.0.1:1\""},
		{"a document's marks", "%YAML 1.1\n---\napi:\n  url: http://x\n...\n", "%YAML 1.1\n---\napi:\n  url: \"http://127.0.0.1:1\"\n...\n"},

		{"no api", "# c\nstomp:\n  enabled: true\n", "# c\n\"api\": {\"url\": \"http://127.0.0.1:1\"}\nstomp:\n  \"url\": \"tcp://127.0.0.1:2\"\n  enabled: true\n"},
		{"no api, indented", "  auth_token_path: x\n  stomp: {enabled: true}\n", "  \"api\": {\"url\": \"http://127.0.0.1:1\"}\n  auth_token_path: x\n  stomp: {\"url\": \"tcp://127.0.0.1:2\", enabled: true}\n"},
		{"no api, flow", `{"auth_token_path": "x"}`, `{"api": {"url": "http://127.0.0.1:1"}, "auth_token_path": "x"}`},
		{"no url", "api:\n  cors: {origins: []}\n", "api:\n  \"url\": \"http://127.0.0.1:1\"\n  cors: {origins: []}\n"},
		{"the last one counts", "api:\n  url: http://x\n  url: http://y\n", "api:\n  url: http://x\n  url: \"http://127.0.0.1:1\"\n"},

		// Of a form that is not usual: written anew.
		{"empty section", "api: {}\n# c\ntiled: {a: yes, b: 'yes', c: 0777} # d\n", "api: {\"url\": \"http://127.0.0.1:1\"}\n# c\ntiled: {a: yes, b: 'yes', c: 0777} # d\n"},
		{"an alias", "tiled: {x: &u http://x, y: [1, *u]}\napi: {url: *u}\n", "tiled: {x: 'http://x', y: [1, 'http://x']}\napi: {url: \"http://127.0.0.1:1\"}\n"},
		{"an anchor that others use", "api:\n  url: &u http://$X\nauth_token_path: *u\n", "api:\n  url: \"http://127.0.0.1:1\"\nauth_token_path: http://$X\n"},
		{"a section that is an alias", "tiled: &b {enabled: true, url: tcp://x:1}\nstomp: *b\napi: {url: http://x}\n", "tiled: {enabled: true, url: 'tcp://x:1'}\nstomp: {enabled: true, url: \"tcp://127.0.0.1:2\"}\napi: {url: \"http://127.0.0.1:1\"}\n"},
		{"a section's merge key", "tiled: &b {enabled: on, url: tcp://x:1}\nstomp:\n  <<: *b\n  auth: {username: u, password: p}\napi: {url: http://x}\n", "tiled: &b {enabled: on, url: tcp://x:1}\nstomp:\n  \"url\": \"tcp://127.0.0.1:2\"\n  <<: *b\n  auth: {username: u, password: p}\napi: {url: \"http://127.0.0.1:1\"}\n"},
		{"a block", "api:\n  url: >-\n    http://x\n", "api:\n  url: \"http://127.0.0.1:1\"\n"},
		{"two lines", "api:\n  url: http://x\n    y\n", "api:\n  url: \"http://127.0.0.1:1\"\n"},
		{"a tag", "api:\n  url: !!str http://x\n", "api:\n  url: \"http://127.0.0.1:1\"\n"},
		{"an escape", "api:\n  url: \"http://\\\"x\"\n", "api:\n  url: \"http://127.0.0.1:1\"\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, err := ReadFile(write(t, []string{tt.file})[0])
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.PointedTo(url, broker)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPointedToAsBlueapi makes a copy of every file that was shown to blueapi, and reads
// both: only the addresses differ.
func TestPointedToAsBlueapi(t *testing.T) {
	copies := 0
	for _, r := range recordings(t) {
		for name, text := range r.Env {
			t.Setenv(name, text)
		}
		for _, path := range r.write(t) {
			f, err := ReadFile(path)
			if err != nil {
				continue
			}
			b, err := f.PointedTo("http://127.0.0.1:1", "tcp://127.0.0.1:2")
			if err != nil {
				t.Errorf("%s: %v", r.Name, err)
				continue
			}
			again := write(t, []string{string(b)})[0]
			before, err := Load("", path)
			if err != nil {
				continue
			}
			copies++
			after, err := Load("", again)
			if err != nil {
				t.Errorf("%s: %v\n%s", r.Name, err, b)
				continue
			}
			if after.URL != "http://127.0.0.1:1" || after.Stomp.Enabled && after.Stomp.URL != "tcp://127.0.0.1:2" {
				t.Errorf("%s: it points to %s and %s", r.Name, after.URL, after.Stomp.URL)
			}
			after.URL, after.Stomp.URL = before.URL, before.Stomp.URL
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("%s: %s", r.Name, diff)
			}
		}
	}
	if copies < 50 {
		t.Errorf("%d copies", copies)
	}
	t.Logf("%d copies", copies)
}

func TestReadFileForeign(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a program":              "import sys\nprint(1)\n",
		"a script":               "#!/bin/sh\nexit 0\n",
		"another's":              "services:\n  web: {image: x}\n",
		"another's api":          "api: {url: http://x, key: 1}\n",
		"another's stomp":        "stomp: {host: x}\n",
		"what many have":         "logging: {level: DEBUG}\nenv: {A: b}\n",
		"a list":                 "- api\n",
		"nothing":                "",
		"a number":               "1",
		"a section that is none": "api: http://x\n",
		"broken":                 "api: [\n",
		"two documents":          "api: {}\n---\napi: {}\n",
		"binary":                 "\x00\x01\x02",
		"large":                  strings.Repeat("# c\n", maxBytes),
		"a list within itself":   "api: {url: http://x}\nscratch: &a [*a]\n",
		"more than it seems": "api: {url: http://x}\nscratch:\n- &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n- &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n" +
			"- &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\n- &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n- [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\n",
	} {
		if _, err := ReadFile(write(t, []string{text})[0]); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadFile(t.TempDir()); !errors.Is(err, ErrForeign) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// FuzzPointedTo checks that a copy points to where it is to point, or that there is none.
func FuzzPointedTo(f *testing.F) {
	for _, r := range recordings(f) {
		for _, file := range r.Files {
			f.Add([]byte(file))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := parse("f.yaml", b)
		if err != nil || !isBlueapi(root) {
			return
		}
		file := &File{path: "f.yaml", text: b, root: root}
		made, err := file.PointedTo("http://127.0.0.1:1", "tcp://127.0.0.1:2")
		if err != nil {
			return
		}
		again, err := parse("f.yaml", made)
		if err != nil || (&File{root: again}).URL() != "http://127.0.0.1:1" {
			t.Errorf("%v: %q", err, made)
		}
	})
}
