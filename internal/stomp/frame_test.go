package stomp_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/adamant-go/adamant/internal/stomp"
)

// recordings returns what each side said in every recorded session, as one
// stream of bytes, under the session's name and the direction.
func recordings(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/golden/*.frames")
	if err != nil || len(names) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	streams := make(map[string][]byte)
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewReader(f); ; {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				break
			}
			var said struct{ Dir, Frame string }
			if err := json.Unmarshal(line, &said); err != nil {
				t.Fatal(err)
			}
			if said.Frame != "" {
				key := strings.TrimSuffix(filepath.Base(name), ".frames") + "/" + said.Dir
				streams[key] = append(streams[key], said.Frame...)
			}
		}
		f.Close()
	}
	return streams
}

// decode reads frames until the stream ends.
func decode(r io.Reader, v stomp.Version, l stomp.Limits) ([]*stomp.Frame, error) {
	d := stomp.NewDecoder(r, l)
	d.Version = v
	var frames []*stomp.Frame
	for {
		f, err := d.Decode()
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return frames, err
		}
		frames = append(frames, f)
	}
}

// TestRecordings decodes what the real broker, server and Python client said,
// however it is cut into reads, and encodes it to the same bytes.
func TestRecordings(t *testing.T) {
	total := 0
	for name, stream := range recordings(t) {
		whole, err := decode(bytes.NewReader(stream), stomp.V11, stomp.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		bytewise, err := decode(iotest.OneByteReader(bytes.NewReader(stream)), stomp.V11, stomp.Limits{})
		if err != nil || !reflect.DeepEqual(whole, bytewise) {
			t.Fatalf("%s: read byte by byte it differs: %v", name, err)
		}
		var again []byte
		for _, f := range whole {
			if again, err = f.Append(again, stomp.V11); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		// RabbitMQ sends a line feed after each frame.
		if want := bytes.TrimLeft(bytes.ReplaceAll(stream, []byte("\x00\n"), []byte("\x00")), "\n"); !bytes.Equal(again, want) {
			t.Errorf("%s: encoded\n%q, recorded\n%q", name, again, want)
		}
		total += len(whole)
	}
	if total < 250 {
		t.Errorf("only %d frames were recorded", total)
	}
}

func TestDecode(t *testing.T) {
	h := func(nv ...string) (hs []stomp.Header) {
		for i := 0; i < len(nv); i += 2 {
			hs = append(hs, stomp.Header{Name: nv[i], Value: nv[i+1]})
		}
		return hs
	}
	for _, tt := range []struct {
		name, in string
		v        stomp.Version
		want     stomp.Frame
	}{
		{"1.2 escapes", "MESSAGE\na\\cb:\\r\\n\\\\\\c\n\n\x00", stomp.V12, stomp.Frame{Command: "MESSAGE", Headers: h("a:b", "\r\n\\:")}},
		{"1.1 escapes", "MESSAGE\na:\\n\\\\\\c\n\n\x00", stomp.V11, stomp.Frame{Command: "MESSAGE", Headers: h("a", "\n\\:")}},
		{"1.0 has none", "MESSAGE\na:\\n\\t\n\n\x00", stomp.V10, stomp.Frame{Command: "MESSAGE", Headers: h("a", `\n\t`)}},
		{"CONNECTED has none", "CONNECTED\nserver:a\\b:c\n\n\x00", stomp.V12, stomp.Frame{Command: "CONNECTED", Headers: h("server", `a\b:c`)}},
		{"1.2 lines end in CR LF", "MESSAGE\r\na:b\r\n\r\nx\r\n\x00", stomp.V12, stomp.Frame{Command: "MESSAGE", Headers: h("a", "b"), Body: []byte("x\r\n")}},
		{"CONNECTED before a version is known", "CONNECTED\r\nversion:1.1\r\n\r\n\x00", stomp.V11, stomp.Frame{Command: "CONNECTED", Headers: h("version", "1.1")}},
		{"1.1 keeps a CR", "MESSAGE\na:b\r\n\n\x00", stomp.V11, stomp.Frame{Command: "MESSAGE", Headers: h("a", "b\r")}},
		{"heart-beats", "\n\r\n\n\nRECEIPT\n\n\x00\n\r\n", stomp.V12, stomp.Frame{Command: "RECEIPT"}},
		{"a repeated header", "MESSAGE\nfoo:World\nfoo:Hello\n\n\x00", stomp.V12, stomp.Frame{Command: "MESSAGE", Headers: h("foo", "World", "foo", "Hello")}},
		{"NUL in a body with a length", "MESSAGE\ncontent-length:3\n\na\x00b\x00", stomp.V12, stomp.Frame{Command: "MESSAGE", Headers: h("content-length", "3"), Body: []byte("a\x00b")}},
		{"a colon that should be escaped", "MESSAGE\na:b:c\n\n\x00", stomp.V12, stomp.Frame{Command: "MESSAGE", Headers: h("a", "b:c")}},
		{"spaces count", "MESSAGE\n a : b \n\n\x00", stomp.V12, stomp.Frame{Command: "MESSAGE", Headers: h(" a ", " b ")}},
		{"no version means 1.2", "ERROR\r\na:\\r\r\n\r\n\x00", "", stomp.Frame{Command: "ERROR", Headers: h("a", "\r")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decode(strings.NewReader(tt.in), tt.v, stomp.Limits{})
			if err != nil || len(got) != 1 || !reflect.DeepEqual(*got[0], tt.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestRepeatedHeaderFirstCounts(t *testing.T) {
	f := stomp.Frame{Headers: []stomp.Header{{Name: "foo", Value: "World"}, {Name: "foo", Value: "Hello"}, {Name: "empty"}}}
	_, there := f.Lookup("empty")
	_, missing := f.Lookup("bar")
	if f.Get("foo") != "World" || !there || missing {
		t.Errorf("foo is %q, empty there: %v, bar there: %v", f.Get("foo"), there, missing)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		v        stomp.Version
	}{
		{"another protocol", "HTTP/1.1 400 Bad Request\r\n\r\n", stomp.V12},
		{"a command with CR in 1.1", "MESSAGE\r\n\r\n\x00", stomp.V11},
		{"an undefined escape", "MESSAGE\na:\\t\n\n\x00", stomp.V12},
		{"\\r in 1.1", "MESSAGE\na:\\r\n\n\x00", stomp.V11},
		{"an escape cut off", "MESSAGE\na:b\\\n\n\x00", stomp.V12},
		{"no colon", "MESSAGE\nab\n\n\x00", stomp.V12},
		{"no name", "MESSAGE\n:b\n\n\x00", stomp.V12},
		{"the end among the headers", "MESSAGE\na:b\x00\nc:d\n\n\x00", stomp.V12},
		{"a bare CR", "MESSAGE\na:b\rc\n\n\x00", stomp.V12},
		{"a CR between frames", "\rMESSAGE\n\n\x00", stomp.V12},
		{"a length that is none", "MESSAGE\ncontent-length:+3\n\nabc\x00", stomp.V12},
		{"a length beyond belief", "MESSAGE\ncontent-length:99999999999999999999\n\nabc\x00", stomp.V12},
		{"a length that is too short", "MESSAGE\ncontent-length:2\n\nabc\x00", stomp.V12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decode(strings.NewReader(tt.in), tt.v, stomp.Limits{})
			if _, ok := errors.AsType[*stomp.ProtocolError](err); !ok || len(got) > 0 {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// TestCutStreams cuts a stream at every byte: what is whole is decoded, and an
// end within a frame is told from one between frames.
func TestCutStreams(t *testing.T) {
	const first, second = "MESSAGE\na:b\n\nbody\x00", "MESSAGE\ncontent-length:3\n\nabc\x00"
	const stream = first + "\n" + second
	for n := range len(stream) + 1 {
		got, err := decode(strings.NewReader(stream[:n]), stomp.V12, stomp.Limits{})
		whole, between := 0, n == 0
		if n >= len(first) {
			whole, between = 1, n <= len(first)+1
		}
		if n == len(stream) {
			whole, between = 2, true
		}
		if len(got) != whole || (err == nil) != between || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes: %d frames, %v; want %d", n, len(got), err, whole)
		}
	}
	broken := errors.New("broken")
	if _, err := decode(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(stream))), stomp.V12, stomp.Limits{}); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("an error of the reader became %v", err)
	}
	if _, err := decode(iotest.ErrReader(broken), stomp.V12, stomp.Limits{}); !errors.Is(err, broken) {
		t.Errorf("an error of the reader became %v", err)
	}
}

func TestLimits(t *testing.T) {
	limits := stomp.Limits{Headers: 2, Line: 20, Body: 10}
	const next = "RECEIPT\n\n\x00"
	for _, tt := range []struct{ name, in, what string }{
		{"headers", "MESSAGE\na:1\nb:2\n\n\x00", ""},
		{"headers over", "MESSAGE\na:1\nb:2\nc:3\n\n\x00", "headers"},
		{"line", "MESSAGE\na:345678901234567890\n\n\x00", ""},
		{"line over", "MESSAGE\na:3456789012345678901\n\n\x00", "line"},
		{"endless line", "MESSAGE\na:" + strings.Repeat("x", 100_000), "line"},
		{"body", "MESSAGE\n\n1234567890\x00", ""},
		{"body over", "MESSAGE\n\n12345678901\x00", "body"},
		{"long body", "MESSAGE\n\n" + strings.Repeat("x", 100_000) + "\x00", "body"},
		{"body with a length", "MESSAGE\ncontent-length:10\n\n1234567890\x00", ""},
		{"body with a length over", "MESSAGE\ncontent-length:11\n\n1234567890\x00\x00", "body"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := stomp.NewDecoder(strings.NewReader(tt.in+next), limits)
			f, err := d.Decode()
			le, _ := errors.AsType[*stomp.LimitError](err)
			if tt.what == "" && err != nil || tt.what != "" && (le == nil || le.What != tt.what) {
				t.Fatalf("got %v, want a limit of %q", err, tt.what)
			}
			if tt.what == "headers" || tt.what == "line" {
				return
			}
			if f == nil || f.Command != "MESSAGE" || tt.what == "body" && f.Body != nil {
				t.Errorf("got the frame %+v", f)
			}
			if f, err := d.Decode(); err != nil || f.Command != "RECEIPT" {
				t.Errorf("the next frame is %+v, %v", f, err)
			}
		})
	}
}

// TestAnnouncedLengthCostsNothing: a peer that announces a large body and
// sends none costs no memory.
func TestAnnouncedLengthCostsNothing(t *testing.T) {
	const in = "MESSAGE\ncontent-length:33000000\n\nabc"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := decode(strings.NewReader(in), stomp.V12, stomp.Limits{})
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes were allocated; %v", n, err)
	}
}

func TestAppendRefuses(t *testing.T) {
	h := func(name, value string) []stomp.Header { return []stomp.Header{{Name: name, Value: value}} }
	for _, tt := range []struct {
		name string
		f    stomp.Frame
		v    stomp.Version
	}{
		{"an unknown command", stomp.Frame{Command: "FOO"}, stomp.V12},
		{"a command that breaks the line", stomp.Frame{Command: "SEND\n"}, stomp.V12},
		{"no name", stomp.Frame{Command: "SEND", Headers: h("", "x")}, stomp.V12},
		{"NUL in a header", stomp.Frame{Command: "SEND", Headers: h("a", "\x00")}, stomp.V12},
		{"a line feed in CONNECT", stomp.Frame{Command: "CONNECT", Headers: h("passcode", "sec\nret")}, stomp.V12},
		{"a colon in CONNECT", stomp.Frame{Command: "CONNECT", Headers: h("a:b", "sec\rret")}, stomp.V12},
		{"a line feed in 1.0", stomp.Frame{Command: "SEND", Headers: h("a", "\n")}, stomp.V10},
		{"a wrong length", stomp.Frame{Command: "SEND", Headers: h("content-length", "1")}, stomp.V12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.f.Append([]byte("before"), tt.v)
			if _, ok := errors.AsType[*stomp.ProtocolError](err); !ok || string(b) != "before" {
				t.Errorf("got %q, %v", b, err)
			}
			if err != nil && (strings.Contains(err.Error(), "sec") || strings.Contains(err.Error(), "ret")) {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}

// TestRoundTrip encodes random frames of every version and decodes them.
func TestRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	text := func(alphabet string, most int) string {
		b := make([]byte, rnd.IntN(most+1))
		for i := range b {
			b[i] = alphabet[rnd.IntN(len(alphabet))]
		}
		return string(b)
	}
	const plain, any = "ab \t\\é~", "ab\\:\n\r é"
	for range 20_000 {
		v := [...]stomp.Version{stomp.V10, stomp.V11, stomp.V12, ""}[rnd.IntN(4)]
		f := &stomp.Frame{Command: [...]string{"MESSAGE", "SEND", "CONNECT", "CONNECTED", "STOMP", "ERROR"}[rnd.IntN(6)]}
		alphabet := any
		if v == stomp.V10 || strings.HasPrefix(f.Command, "CONN") || f.Command == "STOMP" {
			alphabet = plain
		}
		for range rnd.IntN(5) {
			f.Headers = append(f.Headers, stomp.Header{Name: "n" + text(alphabet, 5), Value: text(alphabet, 8)})
		}
		f.Body = []byte(text("\x00\n\rxyz", 50))
		if bytes.IndexByte(f.Body, 0) >= 0 {
			f.Headers = append(f.Headers, stomp.Header{Name: "content-length", Value: strconv.Itoa(len(f.Body))})
		}
		if len(f.Body) == 0 {
			f.Body = nil
		}
		b, err := f.Append(nil, v)
		if err != nil {
			t.Fatalf("%s: %+v: %v", v, f, err)
		}
		got, err := decode(bytes.NewReader(append(b, '\n')), v, stomp.Limits{})
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], f) {
			t.Fatalf("version %s: %+v became %q and then %+v, %v", v, f, b, got, err)
		}
	}
}

func TestContentLengthOnlyWhereNeeded(t *testing.T) {
	for body, want := range map[string]string{
		"text":    "SEND\n\ntext\x00",
		"nul\x00": "SEND\ncontent-length:4\n\nnul\x00\x00",
	} {
		got, err := (&stomp.Frame{Command: "SEND", Body: []byte(body)}).Append(nil, stomp.V12)
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

// FuzzDecode feeds the decoder any bytes. What it takes for frames must be
// encoded, and decoded to the same frames again.
func FuzzDecode(f *testing.F) {
	for _, stream := range recordings(f) {
		f.Add(stream[:min(len(stream), 2000)], uint8(1))
	}
	f.Add([]byte("MESSAGE\r\na\\c\\r\\n:\\\\\r\ncontent-length:2\r\n\r\n\x00x\x00\r\n\n"), uint8(2))
	f.Add([]byte("ERROR\nmessage:x\n\nwhy\x00"), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, version uint8) {
		v := [...]stomp.Version{stomp.V10, stomp.V11, stomp.V12, ""}[version%4]
		limits := stomp.Limits{Headers: 20, Line: 200, Body: 1000}
		frames, _ := decode(bytes.NewReader(in), v, limits)
		var out []byte
		for _, f := range frames {
			var err error
			if out, err = f.Append(out, v); err != nil {
				t.Fatalf("%+v was decoded and cannot be encoded: %v", f, err)
			}
		}
		again, err := decode(bytes.NewReader(out), v, stomp.Limits{})
		if err != nil || !reflect.DeepEqual(frames, again) {
			t.Fatalf("%q became %+v, %q and %+v, %v", in, frames, out, again, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	stream := recordings(b)["progress/in"]
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(bytes.NewReader(stream), stomp.V11, stomp.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
