package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/adamant-go/adamant/blueapi"
)

// format is the shape of a result: compact, full or json.
type format string

const (
	compact  format = "compact"
	full     format = "full"
	jsonText format = "json"
)

func addFormat(flags *pflag.FlagSet, f *format) {
	flags.VarP(f, "output", "o", "how to print the result")
}

// addOwn adds the options that each command of adamant's own has. That of the
// format heeds the variable of blueapi's too.
func (a *app) addOwn(flags *pflag.FlagSet, f *format) {
	flags.Var((*duration)(&a.wait), "wait", "keep trying for so long while the server is away")
	addFormat(flags, f)
	rename(flags, "output", "OUTPUT", "BLUEAPI_CONTROLLER_OUTPUT")
}

// Set reads a format given by a user.
func (f *format) Set(s string) error {
	if !slices.Contains([]format{jsonText, full, compact}, format(s)) {
		return fmt.Errorf("'%s' is not one of 'json', 'full', 'compact'", s)
	}
	*f = format(s)
	return nil
}

func (f *format) String() string { return string(*f) }

// Type is how the help shows what to give.
func (f *format) Type() string { return "[json|full|compact]" }

// plans lists plans, in json as a list.
func (f format) plans(plans []blueapi.Plan) (string, error) {
	list := make([]any, len(plans))
	var b strings.Builder
	for i, p := range plans {
		dict, err := planDict(p)
		if err != nil {
			return "", err
		}
		list[i] = dict
		f.plan(&b, p, dict.get("parameter_schema"))
	}
	if f == jsonText {
		return dumps(list, 2) + "\n", nil
	}
	return b.String(), nil
}

func planDict(p blueapi.Plan) (pyDict, error) {
	schema, err := parsePython(p.Schema)
	if err != nil {
		return nil, fmt.Errorf("plan %s: its schema is not JSON: %w", p.Name, err)
	}
	return pyDict{{"name", p.Name}, {"description", pyText(p.Description)}, {"parameter_schema", schema}}, nil
}

func (f format) plan(b *strings.Builder, p blueapi.Plan, schema any) {
	fmt.Fprintln(b, p.Name)
	about := ""
	if p.Description != nil {
		about = *p.Description
	}
	fields, _ := schema.(pyDict)
	switch f {
	case full:
		if about != "" {
			fmt.Fprintln(b, indentText(strings.TrimFunc(dedent(about), isPySpace), "    "))
		}
		if len(fields) > 0 {
			fmt.Fprintln(b, "    Schema")
			fmt.Fprintln(b, indentText(dumps(schema, 2), "        "))
		}
	default:
		if about != "" {
			first, _, _ := strings.Cut(about, "\n\n")
			fmt.Fprintln(b, indentText(dedent(strings.Trim(first, "\n")), "    "))
		}
		if len(fields) > 0 {
			fmt.Fprintln(b, "    Args")
			properties, _ := fields.get("properties").(pyDict)
			required, _ := fields.get("required").([]any)
			for _, p := range properties {
				must := ""
				if slices.Contains(required, any(p.key)) {
					must = " (Required)"
				}
				fmt.Fprintf(b, "      %s=%s%s\n", p.key, typeName(p.value), must)
			}
		}
	}
}

// typeName is the short name of a JSON schema.
func typeName(schema any) string {
	spec, _ := schema.(pyDict)
	switch kind := spec.get("type"); kind {
	case nil:
		if all, ok := spec.get("allOf").([]any); ok && len(all) > 0 {
			return strings.Join(typeNames(all), " & ")
		}
		if any, ok := spec.get("anyOf").([]any); ok && len(any) > 0 {
			names := typeNames(any)
			if len(names) == 2 { // optional: the other one says it all
				names = slices.DeleteFunc(names, func(s string) bool { return s == "null" })
			}
			return strings.Join(names, " | ")
		}
		return "Any"
	case "array":
		items, _ := spec.get("items").(pyDict)
		if kind := items.get("type"); kind != nil {
			return "[" + pyStr(kind) + "]"
		}
		return "[Any]"
	default:
		return pyStr(kind)
	}
}

func typeNames(schemas []any) []string {
	names := make([]string, len(schemas))
	for i, s := range schemas {
		names[i] = typeName(s)
	}
	return names
}

// devices lists devices, in json as a list.
func (f format) devices(devices []blueapi.Device) string {
	if f == jsonText {
		list := make([]any, len(devices))
		for i, d := range devices {
			list[i] = deviceDict(d)
		}
		return dumps(list, 2) + "\n"
	}
	var b strings.Builder
	for _, d := range devices {
		fmt.Fprintln(&b, d.Name)
		names := make([]string, len(d.Protocols))
		for i, p := range d.Protocols {
			names[i] = p.Name
			if len(p.Types) > 0 {
				names[i] += pyRepr(pyTexts(p.Types))
			}
		}
		if f == full {
			for _, name := range names {
				fmt.Fprintln(&b, "    "+name)
			}
		} else {
			fmt.Fprintln(&b, indentText(fill(strings.Join(names, ", "), 80), "    "))
		}
	}
	return b.String()
}

func deviceDict(d blueapi.Device) pyDict {
	protocols := make([]any, len(d.Protocols))
	for i, p := range d.Protocols {
		protocols[i] = pyDict{{"name", p.Name}, {"types", pyTexts(p.Types)}}
	}
	return pyDict{{"name", d.Name}, {"protocols", protocols}}
}

// withExtra adds fields that are not known, in order of their names. They are
// shown by adamant's own commands: blueapi's drop them.
func withExtra(d pyDict, extra blueapi.Extra) pyDict {
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if v, err := parsePython(extra[name]); err == nil { // it was JSON when it came
			d = append(d, pyItem{name, v})
		}
	}
	return d
}

func pyText(s *string) any {
	if s == nil {
		return nil
	}
	return *s
}

func pyTexts(texts []string) []any {
	list := make([]any, len(texts))
	for i, s := range texts {
		list[i] = s
	}
	return list
}
