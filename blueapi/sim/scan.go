package sim

import (
	"context"
	"encoding/json"
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
			Run:    count,
			schema: json.RawMessage(`{"additionalProperties":false,"properties":{"detectors":{"items":{"anyOf":[{"enum":["det","stage"],"type":"bluesky.protocols.Readable"},{"enum":["det","stage"],"type":"ophyd_async.core._protocol.AsyncReadable"}]},"title":"Detectors","type":"array"},"num":{"default":1,"title":"Num","type":"integer"},"delay":{"anyOf":[{"type":"number"},{"items":{"type":"number"},"type":"array"}],"default":0.0,"title":"Delay"},"metadata":{"additionalProperties":true,"title":"Metadata","type":"object"}},"required":["detectors"],"title":"count","type":"object"}`),
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
				return n, events(ctx, n, func(int) time.Duration { return delayOf(a["delay"].(float64)) })
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

// events sends a run: a start, a descriptor, n events with a delay after each, a
// stop.
func events(ctx context.Context, n int, delay func(i int) time.Duration) error {
	if err := Emit(ctx); err != nil {
		return err
	}
	for i := range n {
		if err := Checkpoint(ctx); err != nil {
			return err
		}
		if err := Emit(ctx); err != nil {
			return err
		}
		if d := delay(i); d > 0 {
			if err := Sleep(ctx, d); err != nil {
				return err
			}
		}
	}
	return Emit(ctx)
}

func count(ctx context.Context, a Args) (any, error) {
	var detectors []string
	if err := json.Unmarshal(a["detectors"].(json.RawMessage), &detectors); err != nil {
		return nil, err
	}
	if len(detectors) == 0 {
		return nil, &PlanError{"ValidationError", tooShort}
	}
	var one float64
	var many []float64
	delay := a["delay"].(json.RawMessage)
	if json.Unmarshal(delay, &one) != nil {
		_ = json.Unmarshal(delay, &many) // the shape allows for texts too: those are 0
	}
	exposure := time.Duration(0)
	for _, d := range detectors {
		if d == "det" {
			exposure = detectorTime
		}
	}
	return nil, events(ctx, a["num"].(int), func(i int) time.Duration {
		if many != nil && i < len(many) {
			return exposure + delayOf(many[i])
		}
		return exposure + delayOf(one)
	})
}

const (
	// detectorTime is what a frame of the demo detector takes.
	detectorTime = 200 * time.Millisecond
	// settlingTime is what a move takes besides its distance, at 1 a second.
	settlingTime = 500 * time.Millisecond
	tooShort     = "1 validation error for count\ndetectors\n  Value should have at least 1 item after validation, not 0 " +
		"[type=too_short, input_value=[], input_type=list]\n    For further information visit https://errors.pydantic.dev/2.14/v/too_short"
)

// moves moves from 0 and, if it is to, back.
func moves(ctx context.Context, a Args) (any, error) {
	x, y := a["x"].(float64), a["y"].(float64)
	leg := settlingTime + delayOf(max(x, -x, y, -y))
	if err := Sleep(ctx, leg); err != nil {
		return nil, err
	}
	if home := a["home"].(bool); !home {
		return nil, nil
	}
	if err := Checkpoint(ctx); err != nil {
		return nil, err
	}
	return nil, Sleep(ctx, leg)
}

// delayOf is a time in seconds; a negative one is none.
func delayOf(seconds float64) time.Duration {
	return time.Duration(max(0, seconds) * float64(time.Second))
}
