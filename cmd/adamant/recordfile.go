package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// recorded is a line of a recording: an event as it came, or a gap, and when.
type recorded struct {
	At    time.Time       `json:"at"`
	Event json.RawMessage `json:"event,omitempty"`
	Text  []byte          `json:"text,omitempty"` // of what is no JSON, in base64
	Gap   *recordedGap    `json:"gap,omitempty"`
}

// recordedGap is a gap in JSON. Times that are not known are null.
type recordedGap struct {
	From     *time.Time `json:"from"`
	Until    *time.Time `json:"until"`
	Missed   int        `json:"missed"`
	Attempts int        `json:"attempts"`
	Error    string     `json:"error,omitempty"`
}

func recordGap(g blueapi.Gap) recordedGap {
	r := recordedGap{From: knownTime(g.From), Until: knownTime(g.Until), Missed: g.Missed, Attempts: g.Attempts}
	if g.Err != nil {
		r.Error = g.Err.Error()
	}
	return r
}

func knownTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (r recordedGap) gap() *blueapi.Gap {
	g := &blueapi.Gap{Missed: r.Missed, Attempts: r.Attempts}
	if r.From != nil {
		g.From = *r.From
	}
	if r.Until != nil {
		g.Until = *r.Until
	}
	if r.Error != "" {
		g.Err = errors.New(r.Error)
	}
	return g
}

// recordFile is a recording that is being made.
type recordFile struct{ f *os.File }

// openRecordFile opens a recording to be added to, and makes it if there is none. What
// is there must be a recording.
func openRecordFile(path string) (*recordFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	r := &recordFile{f}
	if err := r.check(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

var errNotRecording = errors.New("there is something in it that is not a recording")

// check looks at the beginning and the end. If the last line was cut off, by a crash or
// a full disk, it is ended.
func (r *recordFile) check() error {
	info, err := r.f.Stat()
	if err != nil || info.Size() == 0 || !info.Mode().IsRegular() {
		return err
	}
	first, _, err := bufio.NewReader(io.NewSectionReader(r.f, 0, info.Size())).ReadLine()
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(first, []byte(`{"at":"`)) {
		return errNotRecording
	}
	var last [1]byte
	if _, err := r.f.ReadAt(last[:], info.Size()-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		_, err = r.f.WriteString("\n")
	}
	return err
}

// add adds an event, in one write.
func (r *recordFile) add(e blueapi.Event) error {
	line := recorded{At: e.At}
	switch {
	case e.Gap != nil:
		gap := recordGap(*e.Gap)
		line.Gap = &gap
	case json.Valid(e.Raw):
		line.Event = e.Raw
	default:
		line.Text = e.Raw
	}
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = r.f.Write(append(b, '\n'))
	return err
}

func (r *recordFile) close() error { return r.f.Close() }

// player plays a recording. It is used by one goroutine.
type player struct {
	name  string
	f     io.ReadCloser
	in    *bufio.Reader
	speed float64 // 2 is twice as fast as it was; 0 is at once

	lines, bad int
	first      time.Time // the time of the first event
	begun      time.Time // and when it was played
}

func openPlayer(path string, speed float64) (*player, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return newPlayer(path, f, speed), nil
}

func newPlayer(name string, f io.ReadCloser, speed float64) *player {
	return &player{name: name, f: f, in: bufio.NewReader(f), speed: speed}
}

// Next returns the next event when its time has come, and io.EOF after the last.
func (p *player) Next(ctx context.Context) (blueapi.Event, error) {
	for {
		if err := ctx.Err(); err != nil {
			return blueapi.Event{}, err
		}
		b, err := p.in.ReadBytes('\n')
		if len(b) == 0 {
			return blueapi.Event{}, err
		}
		p.lines++
		var line recorded
		if json.Unmarshal(b, &line) != nil || line.At.IsZero() {
			if p.bad++; p.lines == 1 {
				return blueapi.Event{}, fmt.Errorf("%s: %w", p.name, errNotRecording)
			}
			continue // cut off by a crash
		}
		if err := p.wait(ctx, line.At); err != nil {
			return blueapi.Event{}, err
		}
		switch {
		case line.Gap != nil:
			return blueapi.Event{At: line.At, Gap: line.Gap.gap()}, nil
		case line.Event == nil:
			return blueapi.Event{At: line.At, Raw: line.Text}, nil
		default:
			return eventOf(line.Event, line.At), nil
		}
	}
}

// wait waits until an event is due.
func (p *player) wait(ctx context.Context, at time.Time) error {
	if p.first.IsZero() {
		p.first, p.begun = at, time.Now()
	}
	if p.speed == 0 {
		return nil
	}
	due := time.NewTimer(time.Duration(float64(at.Sub(p.first))/p.speed) - time.Since(p.begun))
	defer due.Stop()
	select {
	case <-due.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *player) close() error { return p.f.Close() }

// eventOf reads a recorded event: its kind, and what it can be selected by. The rest is
// in Raw.
func eventOf(raw json.RawMessage, at time.Time) blueapi.Event {
	e := blueapi.Event{At: at, Raw: raw}
	var m struct {
		State    blueapi.WorkerState `json:"state"`
		Task     *blueapi.TaskReport `json:"task_status"`
		Statuses json.RawMessage     `json:"statuses"`
		Name     string              `json:"name"`
		Doc      json.RawMessage     `json:"doc"`
		TaskID   string              `json:"task_id"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return e
	}
	e.TaskID = m.TaskID
	switch {
	case m.State != "":
		e.Worker = &blueapi.WorkerEvent{State: m.State, Task: m.Task}
		if m.Task != nil {
			e.TaskID = m.Task.ID
		}
	case m.Statuses != nil:
		e.Progress = new(blueapi.ProgressEvent)
	case m.Doc != nil:
		e.Data = &blueapi.DataEvent{Name: m.Name, Doc: m.Doc}
	}
	return e
}
