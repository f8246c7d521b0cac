package sim

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

// builtin are the plans that every server has, those by which the real server
// was tested, in its order.
func (s *Server) builtin() []Plan {
	all := slices.Concat(scans(), []Plan{echo()}, s.simple())
	slices.SortFunc(all[1:], func(a, b Plan) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// simple are those with plain parameters and no devices.
func (s *Server) simple() []Plan {
	return []Plan{
		{
			Name: "append_line",
			Description: `Append one line to a file on the server: proof of how often a plan ran.

    The line is on disk before the plan goes on.

    Args:
        path: file to append to, made if need be
        line: text to append, without newline
        seconds: how long to nap afterwards
        last: another line to append at the very end
    `,
			Params: []Param{
				{Name: "path", Type: Text},
				{Name: "line", Type: Text},
				{Name: "seconds", Type: Number, Default: 0.0},
				{Name: "last", Type: Text, Nullable: true},
			},
			Run: func(ctx context.Context, a Args) (any, error) {
				path := a["path"].(string)
				s.files.append(path, a["line"].(string))
				if err := nap(ctx, seconds(a)); err != nil {
					return nil, err
				}
				if last, ok := a["last"].(string); ok {
					s.files.append(path, last)
				}
				return nil, nil
			},
		},
		{
			Name: "fail",
			Description: `Raise a ValueError.

    Args:
        message: its text
        seconds: how long to nap before
    `,
			Params: []Param{{Name: "message", Type: Text}, {Name: "seconds", Type: Number, Default: 0.0}},
			Run: func(ctx context.Context, a Args) (any, error) {
				if err := nap(ctx, seconds(a)); err != nil {
					return nil, err
				}
				return nil, &PlanError{"ValueError", a["message"].(string)}
			},
		},
		{
			Name: "nap",
			Description: `Sleep in short steps, each after a checkpoint.

    Pause, stop and abort take effect within a tenth of a second.

    Args:
        seconds: how long to sleep, not counting pauses
    `,
			Params: []Param{{Name: "seconds", Type: Number}},
			Run: func(ctx context.Context, a Args) (any, error) {
				return nil, nap(ctx, seconds(a))
			},
		},
		{
			Name: "returns",
			Description: `Return the value given.

    Args:
        value: any JSON value
    `,
			Params: []Param{{Name: "value", Nullable: true}},
			Run: func(_ context.Context, a Args) (any, error) {
				return a["value"], nil
			},
			schema: json.RawMessage(`{"additionalProperties":false,"properties":{"value":{"anyOf":[{"type":"integer"},{"type":"number"},{"type":"boolean"},{"type":"string"},{"additionalProperties":true,"type":"object"},{"items":{},"type":"array"}],"title":"Value"}},"title":"returns","type":"object"}`),
		},
		{
			Name: "slow_start",
			Description: `Block before the run engine is started.

    With more than 5 s the request to start the plan fails, and the plan runs.

    Args:
        seconds: how long to block
        path: file to append the line "slow_start" to, once started
    `,
			Params: []Param{{Name: "seconds", Type: Number}, {Name: "path", Type: Text, Nullable: true}},
			Prelude: func(ctx context.Context, a Args) error {
				return sleep(ctx, seconds(a))
			},
			Run: func(_ context.Context, a Args) (any, error) {
				if path, ok := a["path"].(string); ok {
					s.files.append(path, "slow_start")
				}
				return nil, nil
			},
		},
		{
			Name: "stuck",
			Description: `Block the run engine in one piece.

    Nothing is sent, and pause, stop and abort wait until it is over.

    Args:
        seconds: how long to block
    `,
			Params: []Param{{Name: "seconds", Type: Number}},
			Run: func(ctx context.Context, a Args) (any, error) {
				return nil, Block(ctx, seconds(a))
			},
		},
		{
			Name:        "unserialisable",
			Description: "Return an object that cannot be serialised.",
			Run: func(context.Context, Args) (any, error) {
				return func() {}, nil
			},
		},
	}
}

// nap sleeps in steps of a tenth of a second, each after a checkpoint.
func nap(ctx context.Context, d time.Duration) error {
	for ; d > 0; d -= napStep {
		if err := Checkpoint(ctx); err != nil {
			return err
		}
		if err := Sleep(ctx, min(napStep, d)); err != nil {
			return err
		}
	}
	return nil
}

const napStep = 100 * time.Millisecond

func seconds(a Args) time.Duration {
	return time.Duration(a["seconds"].(float64) * float64(time.Second))
}

// files are what append_line writes to. They outlive the process, as a disk does.
type files struct {
	mu    sync.Mutex
	lines map[string][]string
}

func (f *files) append(path, line string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lines == nil {
		f.lines = make(map[string][]string)
	}
	f.lines[path] = append(f.lines[path], line)
}

// Lines returns the lines that append_line and slow_start have written to a path.
func (s *Server) Lines(path string) []string {
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	return slices.Clone(s.files.lines[path])
}
