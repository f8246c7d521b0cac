package sim

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// A faultKind is a fault that can be asked for in words.
type faultKind struct {
	name  string
	value string // what stands after its =; empty if nothing does
	ends  bool   // whether end= may be said of it
	make  func(value string, end End) (Fault, error)
}

func faultKinds() []faultKind {
	lasting := func(f func(time.Duration, End) Fault) func(string, End) (Fault, error) {
		return func(value string, end End) (Fault, error) {
			d, err := time.ParseDuration(value)
			if err != nil || d < 0 {
				return nil, fmt.Errorf("%q is no duration such as 500ms or 2.5s", value)
			}
			return f(d, end), nil
		}
	}
	numbered := func(least, most int, f func(int, End) Fault) func(string, End) (Fault, error) {
		return func(value string, end End) (Fault, error) {
			n, err := strconv.Atoi(value)
			if err != nil || n < least || n > most {
				return nil, fmt.Errorf("%q is no number from %d to %d", value, least, most)
			}
			return f(n, end), nil
		}
	}
	const many = 1 << 30
	return []faultKind{
		{"lose-request", "", true, func(_ string, e End) (Fault, error) { return LoseRequest(e), nil }},
		{"lose-answer", "", true, func(_ string, e End) (Fault, error) { return LoseAnswer(e), nil }},
		{"cut", "BYTES", true, numbered(-many, many, CutAnswer)},
		{"status", "CODE", false, numbered(200, 599, func(n int, _ End) Fault { return Status(n) })},
		{"instead", "CODE", false, numbered(200, 599, func(n int, _ End) Fault { return Instead(Status(n)) })},
		{"delay", "DURATION", false, lasting(func(d time.Duration, _ End) Fault { return Delay(d) })},
		{"stall", "DURATION", false, lasting(func(d time.Duration, _ End) Fault { return Stall(d) })},
		{"twice", "DURATION", false, lasting(func(d time.Duration, _ End) Fault { return Twice(d) })},
		{"late", "DURATION", true, lasting(Late)},
	}
}

// ParseFault makes a fault of words, for command lines and for ControlHandler:
// what is done, optionally to which method and path (as Request has them; one of
// them alone will do), and optionally to which of those requests.
//
//	lose-request [end=END]      LoseRequest
//	lose-answer [end=END]       LoseAnswer
//	cut=BYTES [end=END]         CutAnswer
//	status=CODE                 Status
//	instead=CODE                Instead(Status)
//	delay=DURATION              Delay
//	stall=DURATION              Stall
//	twice=DURATION              Twice
//	late=DURATION [end=END]     Late
//
//	first=K                     First(K) of the requests that match
//	nth=K                       Nth(K) of the requests that match
//
// END is reset (which it is if nothing is said), close or silence. So
// "lose-answer PUT /worker/task first=1" loses the answer to the first start of a
// plan. The error names the word that is wrong, and what is possible.
func ParseFault(text string) (Fault, error) {
	f, err := parseFault(strings.Fields(text))
	if err != nil {
		return nil, fmt.Errorf("fault %q: %w", text, err)
	}
	return f, nil
}

func parseFault(words []string) (Fault, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf("say what is to be done: %s", kindNames())
	}
	kind, value, err := findKind(words[0])
	if err != nil {
		return nil, err
	}
	which := faultTarget{end: Reset}
	for _, w := range words[1:] {
		if err := which.read(w); err != nil {
			return nil, err
		}
	}
	if which.hasEnd && !kind.ends {
		return nil, fmt.Errorf("%s has no end=", kind.name)
	}
	f, err := kind.make(value, which.end)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", words[0], err)
	}
	return which.narrow(f), nil
}

func findKind(word string) (faultKind, string, error) {
	name, value, given := strings.Cut(word, "=")
	for _, k := range faultKinds() {
		switch {
		case k.name != name:
		case given && k.value == "":
			return k, "", fmt.Errorf("%s: nothing comes after %s", word, name)
		case !given && k.value != "":
			return k, "", fmt.Errorf("%s: say %s=%s", word, name, k.value)
		default:
			return k, value, nil
		}
	}
	return faultKind{}, "", fmt.Errorf("there is no %q, only %s", name, kindNames())
}

func kindNames() string {
	var names []string
	for _, k := range faultKinds() {
		if k.value != "" {
			k.name += "=" + k.value
		}
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

// A faultTarget is the part of the words that says which requests are meant.
type faultTarget struct {
	method, path string
	end          End
	hasEnd       bool
	first, nth   int
}

func (t *faultTarget) read(word string) error {
	name, value, option := strings.Cut(word, "=")
	switch {
	case strings.HasPrefix(word, "/"):
		if _, err := path.Match(word, ""); err != nil {
			return fmt.Errorf("%s is no pattern: %w", word, err)
		}
		return setWord(&t.path, word, "path")
	case option && name == "first":
		return t.count(&t.first, word, value)
	case option && name == "nth":
		return t.count(&t.nth, word, value)
	case option && name == "end":
		for _, e := range []End{Reset, Close, Silence} {
			if value == e.String() {
				t.end, t.hasEnd = e, true
				return nil
			}
		}
		return fmt.Errorf("%s: an end is reset, close or silence", word)
	case word == "*", !option && word == strings.ToUpper(word):
		return setWord(&t.method, word, "method")
	}
	return fmt.Errorf("there is no %q here, only a METHOD in capitals or *, a /PATH, first=K, nth=K and end=END", word)
}

func setWord(to *string, word, what string) error {
	if *to != "" {
		return fmt.Errorf("%s: %s is the %s already", word, *to, what)
	}
	*to = word
	return nil
}

func (t *faultTarget) count(to *int, word, value string) error {
	if t.first > 0 || t.nth > 0 {
		return fmt.Errorf("%s: first= or nth= was said already", word)
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return fmt.Errorf("%s: %q is no number from 1", word, value)
	}
	*to = n
	return nil
}

// narrow applies f to the target alone.
func (t *faultTarget) narrow(f Fault) Fault {
	switch {
	case t.first > 0:
		f = First(t.first, f)
	case t.nth > 0:
		f = Nth(t.nth, f)
	}
	if t.method == "" && t.path == "" {
		return f
	}
	return When(func(x *Exchange) bool {
		return (t.method == "" || x.hasMethod(t.method)) && (t.path == "" || x.hasPath(t.path))
	}, f)
}
