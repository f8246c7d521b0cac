package sim

import (
	"context"
	"encoding/json"
)

// echo has a parameter of every kind. It returns them as they were sent: the real
// one as the server understood them.
func echo() Plan {
	params := []Param{
		{Name: "number", Type: Integer},
		{Name: "text", Type: Text},
		{Name: "ratio", Type: Number, Default: 0.5},
		{Name: "flag", Type: Bool, Default: false},
		{Name: "maybe", Type: Text, Nullable: true},
		{Name: "mode", Default: json.RawMessage(`"fast"`), shape: oneWordOf("fast", "slow")},
		{Name: "values", Nullable: true, shape: listOf(scalar(Number))},
		{Name: "either", Default: json.RawMessage("0"), shape: oneOf(scalar(Integer), scalar(Text), listOf(scalar(Integer)))},
		{Name: "table", Nullable: true, shape: mapOf(scalar(Integer))},
		{Name: "point", Nullable: true, shape: modelOf("Point", Param{Name: "x", Type: Number}, Param{Name: "y", Type: Number, Default: 0.0})},
		{Name: "readables", Nullable: true, shape: listOf(deviceOf("bluesky.protocols.Readable"))},
		{Name: "movable", Nullable: true, shape: deviceOf("bluesky.protocols.Movable[float]")},
	}
	return Plan{
		Name: "echo",
		Description: `Return the parameters as the server understood them.

    The second paragraph is not part of the compact listing, the first one has
    exactly one line.

    Args:
        number: required integer
        text: required string
        ratio: number with a default
        flag: boolean with a default
        maybe: optional string
        mode: one of two words
        values: optional list of numbers
        either: union
        table: optional map
        point: optional model with a required field
        readables: optional list of devices
        movable: optional device
    `,
		Params: params,
		Run: func(_ context.Context, a Args) (any, error) {
			v := value{kind: object}
			for _, q := range params {
				raw, _ := pythonResult(a[q.Name])
				arg, _ := parse(string(raw))
				if q.Name == "movable" && arg.kind == text { // it says what the device is called, not how it was asked for
					arg = str(demoDevices()[arg.text].Name)
				}
				v.members = append(v.members, member{q.Name, arg})
			}
			return v.raw(), nil
		},
		schema: json.RawMessage(`{"$defs":{"Point":{"description":"A place on the stage","properties":{"x":{"title":"X","type":"number"},"y":{"default":0.0,"title":"Y","type":"number"}},"required":["x"],"title":"Point","type":"object"}},"additionalProperties":false,"properties":{"number":{"title":"Number","type":"integer"},"text":{"title":"Text","type":"string"},"ratio":{"default":0.5,"title":"Ratio","type":"number"},"flag":{"default":false,"title":"Flag","type":"boolean"},"maybe":{"title":"Maybe","type":"string"},"mode":{"default":"fast","enum":["fast","slow"],"title":"Mode","type":"string"},"values":{"items":{"type":"number"},"title":"Values","type":"array"},"either":{"anyOf":[{"type":"integer"},{"type":"string"},{"items":{"type":"integer"},"type":"array"}],"default":0,"title":"Either"},"table":{"additionalProperties":{"type":"integer"},"title":"Table","type":"object"},"point":{"$ref":"#/$defs/Point"},"readables":{"items":{"enum":["det","stage"],"type":"bluesky.protocols.Readable"},"title":"Readables","type":"array"},"movable":{"enum":[],"title":"Movable","type":"bluesky.protocols.Movable","types":["float"]}},"required":["number","text"],"title":"echo","type":"object"}`),
	}
}
