package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scans are the built-in plans that use devices, and send documents.
func scans() []Plan {
	readable := deviceOf("bluesky.protocols.Readable")
	movable := deviceOf("bluesky.protocols.Movable[float]")
	return []Plan{
		{
			Name: "count",
			Description: `Reads from a number of devices.

    Wraps bluesky.plans.count(det, num, delay, md=metadata) exposing only serializable
    parameters and metadata.
    `,
			Params: []Param{
				{Name: "detectors", shape: sequenceOf(oneOf(readable, readable))},
				{Name: "num", Type: Integer, Default: 1},
				{Name: "delay", Default: json.RawMessage("0.0"), shape: oneOf(scalar(Number), sequenceOf(scalar(Number)))},
				{Name: "metadata", Nullable: true, shape: mapOf(anything())},
			},
			Prelude: checkCount,
			Run:     count,
			schema:  json.RawMessage(`{"additionalProperties":false,"properties":{"detectors":{"items":{"anyOf":[{"enum":["det","stage"],"type":"bluesky.protocols.Readable"},{"enum":["det","stage"],"type":"ophyd_async.core._protocol.AsyncReadable"}]},"title":"Detectors","type":"array"},"num":{"default":1,"title":"Num","type":"integer"},"delay":{"anyOf":[{"type":"number"},{"items":{"type":"number"},"type":"array"}],"default":0.0,"title":"Delay"},"metadata":{"additionalProperties":true,"title":"Metadata","type":"object"}},"required":["detectors"],"title":"count","type":"object"}`),
		},
		{
			Name: "many_events",
			Description: `Send event documents as fast as possible and return their number.

    Args:
        n: how many
        detector: what to read for each
        delay: seconds to sleep after each
    `,
			Params: []Param{
				{Name: "n", Type: Integer},
				{Name: "detector", Default: json.RawMessage(`"stage"`), shape: readable},
				{Name: "delay", Type: Number, Default: 0.0},
			},
			Run: func(ctx context.Context, a Args) (any, error) {
				n := a["n"].(int)
				var detector string
				if err := json.Unmarshal(a["detector"].(json.RawMessage), &detector); err != nil {
					return nil, err
				}
				return n, manyEvents(ctx, n, detector, delayOf(a["delay"].(float64)))
			},
			schema: json.RawMessage(`{"additionalProperties":false,"properties":{"n":{"title":"N","type":"integer"},"detector":{"default":"stage","enum":["det","stage"],"title":"Detector","type":"bluesky.protocols.Readable"},"delay":{"default":0.0,"title":"Delay","type":"number"}},"required":["n"],"title":"many_events","type":"object"}`),
		},
		{
			Name: "moves",
			Description: `Move the stage and report progress.

    Args:
        x: position of the first motor
        y: position of the second motor
        motor_x: first motor
        motor_y: second motor
        home: move both back to 0 at the end
    `,
			Params: []Param{
				{Name: "x", Type: Number},
				{Name: "y", Type: Number},
				{Name: "motor_x", Default: json.RawMessage(`"stage.x"`), shape: movable},
				{Name: "motor_y", Default: json.RawMessage(`"stage.y"`), shape: movable},
				{Name: "home", Type: Bool, Default: true},
			},
			Run:    moves,
			schema: json.RawMessage(`{"additionalProperties":false,"properties":{"x":{"title":"X","type":"number"},"y":{"title":"Y","type":"number"},"motor_x":{"default":"stage.x","enum":[],"title":"Motor X","type":"bluesky.protocols.Movable","types":["float"]},"motor_y":{"default":"stage.y","enum":[],"title":"Motor Y","type":"bluesky.protocols.Movable","types":["float"]},"home":{"default":true,"title":"Home","type":"boolean"}},"required":["x","y"],"title":"moves","type":"object"}`),
		},
	}
}

func manyEvents(ctx context.Context, n int, detector string, delay time.Duration) error {
	if err := OpenRun(ctx, map[string]any{"num_points": n}); err != nil {
		return err
	}
	e := engineOf(ctx)
	for range n {
		if err := Checkpoint(ctx); err != nil {
			return err
		}
		if err := e.save(ctx, []device{e.w.device(detector)}); err != nil {
			return err
		}
		if delay > 0 {
			if err := Sleep(ctx, delay); err != nil {
				return err
			}
		}
	}
	return CloseRun(ctx)
}

// checkCount is what the plan itself asks of its arguments, before it begins.
func checkCount(_ context.Context, a Args) error {
	if string(a["detectors"].(json.RawMessage)) == "[]" {
		return &PlanError{"ValidationError", notValid("detectors", "Value should have at least 1 item after validation, not 0", "too_short", "[]", "list")}
	}
	if n := a["num"].(int); n < 1 {
		return &PlanError{"ValidationError", notValid("num", "Input should be greater than or equal to 1", "greater_than_equal", strconv.Itoa(n), "int")}
	}
	return nil
}

// notValid is pydantic's text for an argument of count that is not valid.
func notValid(name, what, kind, input, inputType string) string {
	return "1 validation error for count\n" + name + "\n  " + what + " [type=" + kind + ", input_value=" + input + ", input_type=" + inputType +
		"]\n    For further information visit https://errors.pydantic.dev/2.14/v/" + kind
}

// count takes a reading of its detectors, num times. The delay is from the beginning
// of one to the beginning of the next.
func count(ctx context.Context, a Args) (any, error) {
	var detectors []string
	if err := json.Unmarshal(a["detectors"].(json.RawMessage), &detectors); err != nil {
		return nil, err
	}
	num := a["num"].(int)
	var one float64
	var many []float64
	delay := a["delay"].(json.RawMessage)
	if json.Unmarshal(delay, &one) != nil {
		_ = json.Unmarshal(delay, &many) // the shape allows for texts too: those are 0
	}
	if many != nil && len(many) != num-1 {
		return nil, &PlanError{"AssertionError", fmt.Sprintf("Number of delays given must be %d: was given %d", num-1, len(many))}
	}
	e := engineOf(ctx)
	frames := &motor{} // that the detector has taken
	if slices.Contains(detectors, "det") {
		e.w.nextFile()
	}
	return nil, e.within(ctx, countMetadata(a, detectors), func() error {
		for i := range num {
			if err := Checkpoint(ctx); err != nil {
				return err
			}
			begun := time.Now()
			if err := e.read(ctx, detectors, frames); err != nil {
				return err
			}
			d := delayOf(one)
			if i < len(many) {
				d = delayOf(many[i])
			}
			if d -= time.Since(begun); d > 0 {
				if err := Sleep(ctx, d); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// read triggers what can be triggered among some devices, and sends their event.
func (e *engine) read(ctx context.Context, names []string, frames *motor) error {
	for _, name := range names {
		if name != "det" {
			continue
		}
		err := e.do(ctx, func(ctx context.Context) error {
			frame := &motion{name: "det", unit: "units", takes: detectorTime, motor: frames, target: frames.position + 1, jump: true, counts: true}
			return e.move(ctx, []*motion{frame})
		})
		if err != nil {
			return err
		}
	}
	devices := make([]device, len(names))
	for i, name := range names {
		devices[i] = e.w.device(name)
		devices[i].triggered = name == "det"
	}
	return e.save(ctx, devices)
}

// countMetadata is what bluesky's count says of itself in its start document.
func countMetadata(a Args, detectors []string) []member {
	num := a["num"].(int)
	names, reprs := value{kind: list}, value{kind: list}
	for _, d := range detectors {
		names.items = append(names.items, str(d))
		class := deviceClass(d)
		reprs.items = append(reprs.items, str(class[strings.LastIndexByte(class, '.')+1:]+`(name="`+d+`")`))
	}
	delay, _ := parse(string(a["delay"].(json.RawMessage)))
	delay = asDecimals(delay)
	dimension := value{kind: list, items: []value{{kind: list, items: []value{str("time")}}, str("primary")}}
	md := dict(
		member{"detectors", names}, member{"num_points", whole(num)}, member{"num_intervals", whole(num - 1)},
		member{"plan_args", dict(member{"detectors", reprs}, member{"num", whole(num)}, member{"delay", delay})},
		member{"hints", dict(member{"dimensions", value{kind: list, items: []value{dimension}}})},
	)
	if raw, ok := a["metadata"].(json.RawMessage); ok {
		own, _ := parse(string(raw))
		for _, m := range own.members {
			md.set(m)
		}
	}
	md.set(member{"shape", wholes(num)})
	return md.members
}

// detectorTime is what a frame of the demo detector takes.
const detectorTime = 200 * time.Millisecond

// asDecimals makes decimals of the whole numbers in a number or a list of them.
func asDecimals(v value) value {
	if f, err := strconv.ParseFloat(v.text, 64); err == nil && v.kind == integer {
		return decimal(f)
	}
	items := v.items
	v.items = nil
	for _, item := range items {
		v.items = append(v.items, asDecimals(item))
	}
	return v
}

// moves moves the stage and, if it is to, back.
func moves(ctx context.Context, a Args) (any, error) {
	if err := moveStage(ctx, a, a["x"].(float64), a["y"].(float64)); err != nil {
		return nil, err
	}
	if home := a["home"].(bool); !home {
		return nil, nil
	}
	if err := Checkpoint(ctx); err != nil {
		return nil, err
	}
	return nil, moveStage(ctx, a, 0, 0)
}

func moveStage(ctx context.Context, a Args, x, y float64) error {
	e := engineOf(ctx)
	first, second := e.w.motorOf(a["motor_x"]), e.w.motorOf(a["motor_y"])
	if first == second {
		return &PlanError{"ValueError", "Can not compose overlapping cycles"}
	}
	return e.do(ctx, func(ctx context.Context) error {
		return e.move(ctx, []*motion{
			{name: first.name, unit: "mm", target: x, motor: first},
			{name: second.name, unit: "mm", target: y, motor: second},
		})
	})
}

// motorOf is the motor that an argument names.
func (w *worker) motorOf(arg any) *motor {
	if raw, _ := arg.(json.RawMessage); string(raw) == `"stage.x"` {
		return &w.stage.x
	}
	return &w.stage.y
}

// delayOf is a time in seconds; a negative one is none.
func delayOf(seconds float64) time.Duration {
	return time.Duration(max(0, seconds) * float64(time.Second))
}
