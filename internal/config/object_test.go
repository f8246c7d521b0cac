package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestObject(t *testing.T) {
	t.Parallel()
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), i-1)
	}
	for _, tt := range []struct{ file, want, fault string }{
		{file: "b: 1\na: [x, 'y', \"z\", 1.5, true, ~, 12345678901234567890, 0x1F]", want: `{"b":1,"a":["x","y","z",1.5,true,null,12345678901234567890,31]}`},
		{file: "a: {b: {c: []}, d: {}}", want: `{"a":{"b":{"c":[]},"d":{}}}`},
		{file: "a: 2024-01-02\nb: 2024-01-02 03:04:05\nc: 1:30", want: `{"a":"2024-01-02","b":"2024-01-02 03:04:05","c":"1:30"}`},
		{file: "a: yes\nb: '1'\nc: !!str 1\nd: $HOME\n1: x\n", want: `{"a":"yes","b":"1","c":"1","d":"$HOME","1":"x"}`},
		{file: "a: &x [1]\nb: *x\nc: |\n  two\n  lines\n", want: `{"a":[1],"b":[1],"c":"two\nlines\n"}`},
		{file: `{"a": [1, {"b": null}]}`, want: `{"a":[1,{"b":null}]}`},
		{file: "\ufeffa: b\u00e4r\r\n", want: `{"a":"bär"}`},

		{file: "", fault: "f.yaml: the file must hold keys and values"},
		{file: "- a\n", fault: "f.yaml: the file must hold keys and values"},
		{file: "a: 1\nb: [\n", fault: "f.yaml:2: not valid YAML: "},
		{file: "a: 1\nb: 2\na: 3\n", fault: `f.yaml:3: the key "a" is there already`},
		{file: "a: 1\nb: .nan\n", fault: "f.yaml:2: JSON has no number .nan"},
		{file: "a: !!binary aGk=\n", fault: "f.yaml:1: JSON has no binary data"},
		{file: "a: !!int x\n", fault: "f.yaml:1: "},
		{file: "a: &x {b: 1}\nc: {<<: *x}\n", fault: "f.yaml:2: a key must be text"},
		{file: "? [a]\n: b\n", fault: "f.yaml:1: a key must be text"},
		{file: "a: &x [*x]\n", fault: "f.yaml:1: too many values, "},
		{file: bomb.String(), fault: "f.yaml:1: too many values, "},
		{file: "a: \xff\n", fault: "f.yaml:1: not UTF-8"},
	} {
		got, err := Object("f.yaml", []byte(tt.file))
		switch {
		case tt.fault != "":
			if err == nil || !strings.HasPrefix(err.Error(), tt.fault) {
				t.Errorf("%.40q: %v; want %s", tt.file, err, tt.fault)
			}
		case err != nil || string(got) != tt.want:
			t.Errorf("%.40q: got %s, %v; want %s", tt.file, got, err, tt.want)
		}
	}
}

// FuzzObject checks that whatever is read is JSON.
func FuzzObject(f *testing.F) {
	for _, r := range recordings(f) {
		for _, file := range r.Files {
			f.Add([]byte(file))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := Object("f.yaml", b); err == nil && !json.Valid(got) {
			t.Errorf("%s", got)
		}
	})
}
