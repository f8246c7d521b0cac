package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/retry"
)

// forPlan makes of what was given the object that a plan takes, and checks it
// against the plan's schema, so that a mistake is found before anything is
// submitted. What the server accepts must pass: of what a schema does not tell
// for certain, and of what could not be asked, it is left to say itself. If the
// check could not be made, unchecked is the reason.
func (p params) forPlan(
	ctx context.Context, v voice, c *blueapi.Client, name string, noCheck bool,
) (object json.RawMessage, unchecked, err error) {
	plan, err := c.Plan(ctx, name)
	refused := refusal(err)
	switch {
	case err == nil:
	case refused != nil && refused.Status == http.StatusNotFound:
		return nil, nil, unknownPlan(ctx, v, c, name)
	case p.haveTexts(), refused == nil && isOutage(err):
		failed := &blueapi.RunError{Plan: name, Err: err}
		failed.Word, failed.Reason = blueapi.NotStarted, blueapi.Unreachable
		if tries, ok := errors.AsType[*retry.Error](err); ctx.Err() != nil || ok && tries.Timeout() {
			failed.Reason = blueapi.Interrupted // by the user, or by --timeout
		} else if e, ok := errors.AsType[*blueapi.Error](err); ok && (refused != nil || e.Foreign) {
			failed.Reason = blueapi.Refused
		}
		return nil, nil, failed
	default:
		return p.object(), err, nil
	}
	s := schemaOf(plan.Schema)
	for i, q := range p {
		if q.texts != nil {
			value := dumps(s.property(q.name).read(q.texts), 0)
			if !json.Valid([]byte(value)) { // 1e999 is infinite, which JSON has no number for
				return nil, nil, ending{
					msg: v.errorf("Incorrect parameters supplied\n    Invalid value %s for field %s: a number is too large",
						pyQuote(strings.Join(q.texts, ", ")), q.name),
					status: statusUsage,
				}
			}
			p[i] = param{name: q.name, json: json.RawMessage(value)}
		}
	}
	if noCheck {
		return p.object(), nil, nil
	}
	check := paramsCheck{client: c, schema: s}
	if wrong := check.complaints(ctx, p); wrong != nil {
		return nil, nil, ending{
			msg:    v.errorf("Incorrect parameters supplied\n    %s", strings.Join(wrong, "\n    ")),
			status: statusUsage,
		}
	}
	return p.object(), nil, nil
}

// isOutage tells that a call ended because the server did not answer: then a run would
// only find the same.
func isOutage(err error) bool {
	tries, ok := errors.AsType[*retry.Error](err)
	return ok && tries.Reason != retry.Hopeless
}

func unknownPlan(ctx context.Context, v voice, c *blueapi.Client, name string) error {
	var known []string
	plans, err := c.Plans(ctx)
	for _, p := range plans {
		known = append(known, p.Name)
	}
	hint := perhaps(name, known)
	if err == nil && len(plans) == 0 {
		hint = noPlans
	}
	return ending{msg: v.errorf("Plan '%s' was not recognised%s", name, hint), status: statusUsage}
}

// noPlans is what a server can come to that is reloaded while a plan runs: when its old
// worker did not stop within 30 s, the environment that it made next was initialized, and
// had neither plans nor devices (seen on 1.21.1). Another reload mends it.
const noPlans = "; the server has no plans at all, as can be after a reload while a plan ran: 'adamant env --reload' has it load them"

// perhaps suggests what may have been meant, if something like it is known.
func perhaps(name string, known []string) string {
	best, least := "", min(1+len(name)/4, len(name)-1)
	for _, k := range known {
		switch d := distance(name, k); {
		case d > 0 && d <= least && (best == "" || d < least):
			best, least = k, d
		case best == "" && len(name) >= 3 && strings.HasPrefix(k, name):
			best = k
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean '%s'?", best)
}

// paramsCheck finds what a server would complain about, in its words.
type paramsCheck struct {
	client *blueapi.Client
	schema schema

	sought  map[string]sought // devices that the server was asked for
	devices []string          // all that it lists, once they are needed
}

func (k *paramsCheck) complaints(ctx context.Context, p params) []string {
	properties, ok := k.schema.get("properties").(pyDict)
	if !ok {
		return nil
	}
	required, _ := k.schema.get("required").([]any)
	var all, names []string
	for _, property := range properties {
		names = append(names, property.key)
		i := slices.IndexFunc(p, func(q param) bool { return q.name == property.key })
		if i < 0 {
			if slices.Contains(required, any(property.key)) {
				all = append(all, "Missing value for "+pyQuote(property.key))
			}
			continue
		}
		v, err := parsePython(p[i].json)
		if err != nil {
			continue // a number beyond all bounds, for instance
		}
		all = append(all, k.value(ctx, property.key, k.schema.of(property.value), v)...)
	}
	for _, q := range p {
		if k.schema.get("additionalProperties") == false && !slices.Contains(names, q.name) {
			all = append(all, fmt.Sprintf("Unexpected field %s%s", pyQuote(q.name), perhaps(q.name, names)))
		}
	}
	return all
}

// value finds what is wrong with a value. Whether null is allowed is not in the
// schema, and what a class makes of its input is not either.
func (k *paramsCheck) value(ctx context.Context, at string, s schema, v any) []string {
	if v == nil || s.isReference() {
		return nil
	}
	if choices := s.choices(); choices != nil {
		var all []string
		for _, choice := range choices {
			wrong := k.value(ctx, at, choice, v)
			if wrong == nil {
				return nil
			}
			for _, w := range wrong {
				if !slices.Contains(all, w) {
					all = append(all, w)
				}
			}
		}
		return all
	}
	complain := func(msg string) []string {
		if msg == "" {
			return nil
		}
		return []string{fmt.Sprintf("Invalid value %s for field %s: %s", pyRepr(v), at, msg)}
	}
	if s.isDevice() {
		return complain(k.device(ctx, s, v))
	}
	switch v := v.(type) {
	case []any:
		if s.kind() != "array" {
			break
		}
		var all []string
		for i, item := range v {
			all = append(all, k.value(ctx, at+"."+strconv.Itoa(i), s.items(i), item)...)
		}
		return all
	case pyDict:
		if s.kind() != "object" || s.get("properties") != nil {
			break
		}
		var all []string
		for _, item := range v {
			all = append(all, k.value(ctx, at+"."+item.key, s.of(s.get("additionalProperties")), item.value)...)
		}
		return all
	}
	return complain(misfit(s, v))
}

// misfit says what is wrong with a value if it is certain. What is accepted is
// what pydantic accepts unless it is told to be strict:
// https://docs.pydantic.dev/latest/concepts/conversion_table/
// Strings are left to the server where a list is wanted (an Iterable takes them),
// and so are numbers where text is (a complex number is text in a schema).
func misfit(s schema, v any) string {
	_, isList := v.([]any)
	_, isDict := v.(pyDict)
	text, isText := v.(string)
	switch s.kind() {
	case "null": // beside other types, and v is not null
		return "Input should be None"
	case "integer":
		return misfitNumber("integer", "an integer", v, func(f float64) bool { return f == math.Trunc(f) })
	case "number":
		return misfitNumber("number", "a number", v, func(float64) bool { return true })
	case "boolean":
		return misfitTruth(v)
	case "string":
		if words := enumWords(s); words != nil && !(isText && slices.Contains(words, text)) {
			return "Input should be " + quotedList(words) + perhaps(text, words)
		}
		if (isList || isDict) && s.get("format") == nil {
			return "Input should be a valid string"
		}
	case "array":
		if !isList && !isDict && !isText {
			return "Input should be a valid list"
		}
	case "object":
		if !isDict && s.get("properties") == nil {
			return "Input should be a valid dictionary"
		}
	}
	return ""
}

func misfitNumber(name, oneOf string, v any, fits func(float64) bool) string {
	valid := "Input should be a valid " + name
	switch v := v.(type) {
	case bool, pyInt:
		return ""
	case float64:
		if !fits(v) {
			return valid + ", got a number with a fractional part"
		}
		return ""
	case string:
		// Python allows 1_000; and what is too large is not for us to refuse.
		f, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(v), "_", ""), 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) || !fits(f) {
			return valid + ", unable to parse string as " + oneOf
		}
		return ""
	}
	return valid
}

func misfitTruth(v any) string {
	switch v := v.(type) {
	case bool:
		return ""
	case pyInt:
		if v == "0" || v == "1" {
			return ""
		}
	case float64:
		if v == 0 || v == 1 {
			return ""
		}
	case string:
		switch strings.ToLower(v) {
		case "true", "t", "yes", "y", "on", "1", "false", "f", "no", "n", "off", "0":
			return ""
		}
	default:
		return "Input should be a valid boolean"
	}
	return "Input should be a valid boolean, unable to interpret input"
}

// enumWords are the words that a value must be one of; nil if it may be others.
func enumWords(s schema) []string {
	list, ok := s.get("enum").([]any)
	if !ok && s.get("const") != nil {
		list = []any{s.get("const")}
	}
	var words []string
	for _, v := range list {
		word, ok := v.(string)
		if !ok {
			return nil
		}
		words = append(words, word)
	}
	return words
}

// quotedList is 'a', 'b' or 'c'.
func quotedList(words []string) string {
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, pyQuote(w))
	}
	last := len(quoted) - 1
	if last == 0 {
		return quoted[0]
	}
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// device says what is wrong with the name of a device. The schema lists those
// that will do, but not their parts, such as stage.x: the server knows these only
// if it is asked.
func (k *paramsCheck) device(ctx context.Context, s schema, v any) string {
	name, ok := v.(string)
	if !ok {
		return "Input should be a valid string"
	}
	fitting := enumWords(s)
	if name == "" || s.get("enum") == nil || slices.Contains(fitting, name) {
		return ""
	}
	switch k.find(ctx, name) {
	case found:
		if !strings.Contains(name, ".") { // it would be in the list
			return fmt.Sprintf("Device %s is not of type %s", name, s.kind())
		}
	case notFound:
		return fmt.Sprintf("Device %s cannot be found%s", name, k.perhapsDevice(ctx, name, fitting))
	case notKnown:
	}
	return ""
}

// sought is what the server said when it was asked for a device.
type sought int

const (
	notKnown sought = iota
	found
	notFound
)

func (k *paramsCheck) find(ctx context.Context, name string) sought {
	if s, ok := k.sought[name]; ok {
		return s
	}
	s := found
	if _, err := k.client.Device(ctx, name); err != nil {
		s = notKnown
		if refused := refusal(err); refused != nil && refused.Status == http.StatusNotFound {
			s = notFound
		}
	}
	if k.sought == nil {
		k.sought = make(map[string]sought)
	}
	k.sought[name] = s
	return s
}

// perhapsDevice suggests a device: of those that will do, or else of all. Of the
// name of a part only the name of the whole can be compared.
func (k *paramsCheck) perhapsDevice(ctx context.Context, name string, fitting []string) string {
	whole, part, dotted := strings.Cut(name, ".")
	if hint := perhaps(name, fitting); hint != "" && !dotted {
		return hint
	}
	if k.devices == nil {
		devices, _ := k.client.Devices(ctx) // without it, no suggestion
		for _, d := range devices {
			k.devices = append(k.devices, d.Name)
		}
	}
	switch hint := perhaps(whole, k.devices); {
	case !dotted:
		return hint
	case slices.Contains(k.devices, whole):
		return ""
	default:
		return strings.Replace(hint, "'?", "."+part+"'?", 1)
	}
}
