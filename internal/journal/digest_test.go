package journal

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestDigest(t *testing.T) {
	seen := map[string]string{}
	for _, same := range [][]string{
		{``, `{}`, ` { } `},
		{`{"a": 1, "b": [1, 2.5]}`, `{"b":[1,2.50],"a":1}`, `{"a":1.0,"b":[1e0,25e-1]}`, `{"a":2,"a":1,"b":[1,2.5]}`},
		{`{"a": "é/"}`, `{"a":"\u00e9\/"}`},
		{`{"a": -0}`, `{"a": 0}`, `{"a": 0.0}`, `{"a": -0.0}`},
		{`{"a": 123456789012345678901234567890}`},
		{`{"a": 123456789012345678901234567891}`},
		{`{"a": 9007199254740993}`},
		{`{"a": 9007199254740992}`},
		{`{"a": 1e400}`},
		{`{"a": 1e401}`},
		{`{"a": "1"}`},
		{`{"a": 1}`},
		{`{"a": true}`},
		{`{"a": null}`},
		{`{"a": [1, 2]}`},
		{`{"a": [2, 1]}`},
		{`{"a": 1} {}`},
		{`nonsense`},
		{`null`},
		{`{"a": "` + strings.Repeat("x", 2*maxJSON) + `"}`},
		{`{"a": "` + strings.Repeat("x", 2*maxJSON) + `y"}`},
	} {
		first := Digest(json.RawMessage(same[0]))
		for _, other := range same[1:] {
			if Digest(json.RawMessage(other)) != first {
				t.Errorf("%s and %s differ", same[0], other)
			}
		}
		if other, ok := seen[first]; ok {
			t.Errorf("%.30s and %.30s are the same", same[0], other)
		}
		seen[first] = same[0]
	}
}

// FuzzDigest: any bytes have a digest, and blanks around a value do not matter.
func FuzzDigest(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.0,{"b":null}]}`, `1e309`, `"\ud800"`, `[`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := Digest(b)
		if len(d) != 64 || d != Digest(b) {
			t.Fatal(d)
		}
		if json.Valid(b) && Digest([]byte(" "+string(b)+"\n")) != d {
			t.Errorf("blanks matter in %q", b)
		}
	})
}
