package sim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A normal form has names in the place of what differs from one run to the next:
// of ids in the order of their first appearance, and of times.
type normal struct {
	t      testing.TB
	names  map[string]string
	counts map[string]int
}

func newNormal(t testing.TB) *normal {
	return &normal{t, make(map[string]string), make(map[string]int)}
}

// name is what stands for an id of a kind.
func (n *normal) name(kind, id string) string {
	if n.names[id] == "" {
		n.counts[kind]++
		n.names[id] = fmt.Sprintf("%s%d", kind, n.counts[kind])
	}
	return n.names[id]
}

var (
	traceparent = regexp.MustCompile(`(?m)^traceparent:00-([0-9a-f]{32})-[0-9a-f]{16}-03$`)
	dataFile    = regexp.MustCompile(`demo_\d{5}`) // numbered since the server's start
	sessionID   = regexp.MustCompile(`session-[^@\n]+`)
)

// frame is the normal form of a STOMP frame. The length of its body is checked, and
// left out.
func (n *normal) frame(f string) string {
	head, body, _ := strings.Cut(f, "\n\n")
	head = traceparent.ReplaceAllStringFunc(head, func(s string) string {
		return "traceparent:" + n.name("trace", traceparent.FindStringSubmatch(s)[1])
	})
	head = sessionID.ReplaceAllLiteralString(head, "session")
	head = uuid.ReplaceAllStringFunc(head, func(id string) string { return n.name("id", id) })
	if want := fmt.Sprintf("\ncontent-length:%d", len(body)); strings.HasPrefix(strings.TrimLeft(head, "\n"), "MESSAGE") {
		if !strings.HasSuffix(head, want) {
			n.t.Errorf("no %q in %s", want, head)
		}
		head = strings.TrimSuffix(head, want)
	}
	return head + "\n\n" + n.body(body)
}

// body is the normal form of an event.
func (n *normal) body(b string) string {
	if b == "" || b[0] != '{' {
		return uuid.ReplaceAllStringFunc(b, func(id string) string { return n.name("id", id) })
	}
	d := json.NewDecoder(strings.NewReader(b))
	d.UseNumber()
	var out bytes.Buffer
	n.value(d, "", &out)
	return out.String()
}

// value copies one JSON value, in the order of its members.
func (n *normal) value(d *json.Decoder, key string, out *bytes.Buffer) {
	token, err := d.Token()
	if err != nil {
		n.t.Fatal(err)
	}
	switch v := token.(type) {
	case json.Delim:
		var parts []string
		for d.More() {
			var part bytes.Buffer
			name := key
			if v == '{' {
				raw, err := d.Token()
				if err != nil {
					n.t.Fatal(err)
				}
				name = raw.(string)
				if key == "timestamps" {
					name = "time"
				}
				label := raw.(string)
				if key != "statuses" {
					label = n.text(label)
				}
				fmt.Fprintf(&part, "%s:", label)
			}
			n.value(d, name, &part)
			parts = append(parts, part.String())
		}
		end, _ := d.Token()
		// The real one has the motors of its stage in an order of the moment, and what
		// a plan waits for too.
		if slices.ContainsFunc(parts, func(p string) bool { return strings.HasPrefix(p, `"stage-`) }) || key == "statuses" {
			slices.SortFunc(parts, func(a, b string) int { return strings.Compare(unnamed(a), unnamed(b)) })
		}
		all := strings.Join(parts, ",")
		if key == "statuses" {
			all = uuid.ReplaceAllStringFunc(all, func(id string) string { return n.name("status", id) })
		}
		fmt.Fprintf(out, "%v%s%v", v, all, end)
	case string:
		out.WriteString(n.text(v))
	case json.Number:
		switch key {
		case "time", "time_elapsed":
			fmt.Fprint(out, key)
		case "scan_id":
			out.WriteString("scan")
		default:
			fmt.Fprint(out, v)
		}
	default:
		fmt.Fprintf(out, "%v", v)
	}
}

// unnamed is a member without its name.
func unnamed(member string) string {
	if _, v, ok := strings.Cut(member, ":{"); ok {
		return v
	}
	return member
}

func (n *normal) text(s string) string {
	s = uuid.ReplaceAllStringFunc(s, func(id string) string { return n.name("id", id) })
	s = dataFile.ReplaceAllStringFunc(s, func(f string) string { return n.name("demo", f) })
	return fmt.Sprintf("%q", s)
}

// compareEvents holds events to those recorded. In which order two motors tell of
// their progress at the same moment is a matter of luck: of progress, only what is
// told of each is compared.
func compareEvents(t testing.TB, what string, got, want []string) {
	t.Helper()
	gotRest, gotProgress := split(got)
	wantRest, wantProgress := split(want)
	compare(t, what, gotRest, wantRest)
	compare(t, what+": progress", gotProgress, wantProgress)
}

var status = regexp.MustCompile(`(status\d+):(\{[^}]*\})`)

// split takes the views of each motion out of events. What remains of an event is
// where it stood.
func split(events []string) (rest, progress []string) {
	views := make(map[string]string) // by motion
	last := make(map[string]string)
	for _, e := range events {
		found := status.FindAllStringSubmatch(e, -1)
		if found == nil {
			rest = append(rest, messageNumber.ReplaceAllLiteralString(e, "@@"))
		} else if n := len(rest); n == 0 || rest[n-1] != "progress" {
			rest = append(rest, "progress")
		}
		for _, f := range found {
			if last[f[1]] != f[2] {
				last[f[1]] = f[2]
				views[f[1]] += f[2] + "\n"
			}
		}
	}
	return rest, slices.Sorted(maps.Values(views))
}

var messageNumber = regexp.MustCompile(`@@\d+\n`)

// compare holds what came to what was recorded.
func compare(t testing.TB, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("%s: %d of %d\n     got %s\nrecorded %s", what, i+1, len(want), g, w)
			return
		}
	}
}
