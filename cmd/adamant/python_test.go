package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// testdata/python.json was written by Python 3.11 (testdata/python.py).
func TestPython(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/python.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases struct {
		Wrap []struct {
			In, Out string
			Width   int
		}
		Text   []struct{ In, Dedent, Indent, Strip string }
		Values []struct{ In, Str, Repr, Line, Lines string }
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	check := func(what, in, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s of %q\n is %q\nnot %q", what, in, got, want)
		}
	}
	for _, c := range cases.Wrap {
		check("fill", c.In, fill(c.In, c.Width), c.Out)
	}
	for _, c := range cases.Text {
		check("dedent", c.In, dedent(c.In), c.Dedent)
		check("indent", c.In, indentText(c.In, "    "), c.Indent)
		check("strip", c.In, strings.TrimFunc(c.In, isPySpace), c.Strip)
	}
	for _, c := range cases.Values {
		v, err := parsePython(json.RawMessage(c.In))
		if err != nil {
			t.Errorf("%s: %v", c.In, err)
			continue
		}
		check("str", c.In, pyStr(v), c.Str)
		check("repr", c.In, pyRepr(v), c.Repr)
		check("dumps", c.In, dumps(v, 0), c.Line)
		check("indented dumps", c.In, dumps(v, 2), c.Lines)
	}
}
