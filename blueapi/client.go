// Package blueapi is a client of the blueapi server, which runs bluesky plans
// for a beamline. Most programs want Client.Run.
package blueapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Client talks to one blueapi server.
type Client struct {
	// URL is the server's base, http://localhost:8000 if empty. A path is kept.
	URL string
	// Transport gives dial and TLS settings; nil means the defaults.
	Transport *http.Transport
}

// Error is an answer of the server that was not a success.
type Error struct {
	Op     string // such as "GET /plans/{name}"
	Status int
	Detail string         // the server's own words
	Fields []InvalidField // of a 422
	Body   []byte
}

// InvalidField is one complaint of a 422 answer.
type InvalidField struct {
	Loc   []any           `json:"loc"`
	Msg   string          `json:"msg"`
	Type  string          `json:"type"`
	Input json.RawMessage `json:"input"`
}

func (e *Error) Error() string { return fmt.Sprintf("%s: status %d: %s", e.Op, e.Status, e.Detail) }

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	base := c.URL
	if base == "" {
		base = "http://localhost:8000"
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(base, "/")+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	hc := &http.Client{}
	if c.Transport != nil {
		hc.Transport = c.Transport
	}
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		e := &Error{Op: method + " " + path, Status: resp.StatusCode, Body: b}
		var d struct{ Detail json.RawMessage }
		if json.Unmarshal(b, &d) == nil && json.Unmarshal(d.Detail, &e.Detail) != nil {
			_ = json.Unmarshal(d.Detail, &e.Fields)
		}
		return e
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// Environment reads the server's environment.
func (c *Client) Environment(ctx context.Context) (e Environment, err error) {
	return e, c.do(ctx, "GET", "/api/v1/environment", nil, &e)
}

// Plans lists the plans.
func (c *Client) Plans(ctx context.Context) ([]Plan, error) {
	var v struct{ Plans []Plan }
	err := c.do(ctx, "GET", "/api/v1/plans", nil, &v)
	return v.Plans, err
}

// Plan reads one plan.
func (c *Client) Plan(ctx context.Context, name string) (p Plan, err error) {
	return p, c.do(ctx, "GET", "/api/v1/plans/"+url.PathEscape(name), nil, &p)
}

// Devices lists the devices.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	var v struct{ Devices []Device }
	err := c.do(ctx, "GET", "/api/v1/devices", nil, &v)
	return v.Devices, err
}

// Device reads one device.
func (c *Client) Device(ctx context.Context, name string) (d Device, err error) {
	return d, c.do(ctx, "GET", "/api/v1/devices/"+url.PathEscape(name), nil, &d)
}

// Tasks lists tasks, all of them if status is empty.
func (c *Client) Tasks(ctx context.Context, status TaskStatus) ([]Task, error) {
	path := "/api/v1/tasks"
	if status != "" {
		path += "?task_status=" + url.QueryEscape(string(status))
	}
	var v struct{ Tasks []Task }
	err := c.do(ctx, "GET", path, nil, &v)
	return v.Tasks, err
}

// Task reads one task.
func (c *Client) Task(ctx context.Context, id string) (t Task, err error) {
	return t, c.do(ctx, "GET", "/api/v1/tasks/"+url.PathEscape(id), nil, &t)
}

// SubmitTask stores a task and returns its id. Nothing moves.
func (c *Client) SubmitTask(ctx context.Context, r TaskRequest) (string, error) {
	var v struct {
		ID string `json:"task_id"`
	}
	err := c.do(ctx, "POST", "/api/v1/tasks", r, &v)
	return v.ID, err
}

// DeleteTask removes a task that has not begun.
func (c *Client) DeleteTask(ctx context.Context, id string) error {
	return c.do(ctx, "DELETE", "/api/v1/tasks/"+url.PathEscape(id), nil, nil)
}

// WorkerTask returns the id of the task that the worker has or had last.
func (c *Client) WorkerTask(ctx context.Context) (string, error) {
	var v struct {
		ID *string `json:"task_id"`
	}
	err := c.do(ctx, "GET", "/api/v1/worker/task", nil, &v)
	if err != nil || v.ID == nil {
		return "", err
	}
	return *v.ID, nil
}

// WorkerState reads what the worker is doing.
func (c *Client) WorkerState(ctx context.Context) (s WorkerState, err error) {
	return s, c.do(ctx, "GET", "/api/v1/worker/state", nil, &s)
}

// Close lets go of idle connections.
func (c *Client) Close() {}
