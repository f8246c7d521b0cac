package sim

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"
)

// A Reading is one value of an event.
type Reading struct {
	Name  string // such as stage-x
	Value float64
}

// OpenRun begins a run of the plan, which is one measurement, and sends its start
// document, with what md adds to the members that every run has.
//
// OpenRun, Emit and CloseRun fail in a plan that was resumed, and, like Move, while
// the broker is away, as on the real server. Then the plan must end, with that
// error. Outside of a plan's Run they do nothing.
func OpenRun(ctx context.Context, md map[string]any) error {
	e := engineOf(ctx)
	if e == nil {
		return ctx.Err()
	}
	raw, err := json.Marshal(md)
	if err != nil {
		return err
	}
	v, _ := parse(string(raw))
	return e.openRun(ctx, v.members)
}

// Emit sends an event of the run that is open, with these readings, and before the
// first one a descriptor that says what they are. If no run is open it opens one.
func Emit(ctx context.Context, readings ...Reading) error {
	e := engineOf(ctx)
	if e == nil {
		return ctx.Err()
	}
	if e.bundle == nil {
		if err := e.openRun(ctx, nil); err != nil {
			return err
		}
	}
	devices := make([]device, len(readings))
	for i, r := range readings {
		devices[i] = soft(r.Name, nil, signal{name: r.Name, value: r.Value, at: time.Now()})
	}
	return e.save(ctx, devices)
}

// CloseRun ends the run that is open, with a stop document. A run that is still
// open when the plan ends is closed by the run engine.
func CloseRun(ctx context.Context) error {
	e := engineOf(ctx)
	if e == nil {
		return ctx.Err()
	}
	return e.do(ctx, func(context.Context) error { return e.stopDocument("success", "") })
}

// A bundle is what the run engine knows of an open run. Only the plan uses it.
type bundle struct {
	start      string // uid of its start document
	descriptor string // of its descriptor, or empty before the first event
	events     int
	resources  []string // of its stream resources
}

// A document is an event's body. It is made when somebody wants it.
type document struct {
	name, task string
	make       func() value
	made       *value
}

func (d *document) value() value {
	if d.made == nil {
		d.made = new(dict(member{"name", str(d.name)}, member{"doc", d.make()}, member{"task_id", str(d.task)}))
	}
	return *d.made
}

func (d *document) wire() []byte { return d.value().raw() }

func (d *document) python() string {
	doc, _ := d.value().field("doc")
	return "name=" + pythonRepr(d.name) + " doc=" + doc.python() + " task_id=" + pythonRepr(d.task)
}

// send publishes a document, in the engine's loop.
func (e *engine) send(name string, doc func() value) error {
	return e.inLoop(func() error {
		w := e.w
		w.mu.Lock()
		mute := e.mute
		ev := event{task: e.task.id, loose: true, trace: w.trace(), body: &document{name: name, task: e.task.id, make: doc}}
		w.mu.Unlock()
		if mute {
			return errMute
		}
		return w.publish(ev)
	})
}

func (e *engine) openRun(ctx context.Context, md []member) error {
	return e.do(ctx, func(context.Context) error {
		if e.bundle != nil {
			return &PlanError{"IllegalMessageSequence", "A 'close_run' message was not received before the 'open_run' message"}
		}
		w, t, now := e.w, e.task, time.Now()
		w.mu.Lock()
		w.scans++
		scan := w.scans
		w.mu.Unlock()
		b := &bundle{start: newID()}
		err := e.send("start", func() value {
			metadata, _ := parse(string(t.request.Metadata))
			doc := dict(member{"uid", str(b.start)}, member{"time", clock(now)}, member{"versions", versions()}, member{"instrument", str("demo")})
			doc.members = append(doc.members, metadata.members...)
			doc.members = append(doc.members, member{"scan_id", whole(scan)},
				member{"plan_type", str("generator")}, member{"plan_name", str(t.plan.Name)})
			for _, m := range md {
				doc.set(m)
			}
			return doc
		})
		if err == nil {
			e.bundle = b
		}
		return err
	})
}

// versions are what the real server was recorded with.
func versions() value {
	return dict(member{"ophyd", str("1.11.2")}, member{"ophyd_async", str("0.21.3")},
		member{"bluesky", str("1.15.1")}, member{"event_model", str("1.24.0")})
}

// save sends an event that holds what the devices read, with all that goes before
// the first one.
func (e *engine) save(ctx context.Context, devices []device) error {
	return e.do(ctx, func(context.Context) error {
		if e.bundle == nil {
			return &PlanError{"IllegalMessageSequence", "Cannot bundle readings without an open run. That is, 'create' and 'save' must be preceded by 'open_run'."}
		}
		b := e.bundle
		if b.descriptor == "" {
			uid, now := newID(), time.Now()
			if err := e.send("descriptor", func() value { return descriptor(b.start, uid, now, devices) }); err != nil {
				return err
			}
			b.descriptor = uid
		}
		if err := e.sendFrames(devices); err != nil {
			return err
		}
		b.events++
		uid, now, seq, of := newID(), time.Now(), b.events, b.descriptor
		return e.send("event", func() value {
			data, timestamps := dict(), dict()
			for _, d := range devices {
				for _, s := range d.signals {
					data.members = append(data.members, member{s.name, decimal(s.value)})
					timestamps.members = append(timestamps.members, member{s.name, clock(s.at)})
				}
			}
			return dict(member{"uid", str(uid)}, member{"time", clock(now)}, member{"data", data}, member{"timestamps", timestamps},
				member{"seq_num", whole(seq)}, member{"filled", dict()}, member{"descriptor", str(of)})
		})
	})
}

// sendFrames tells of what detectors have written to their files for the next event.
func (e *engine) sendFrames(devices []device) error {
	b := e.bundle
	at := slices.IndexFunc(devices, func(d device) bool { return d.triggered })
	if at < 0 {
		return nil
	}
	files := devices[at].files
	for i := len(b.resources); i < len(files); i++ {
		uid := newID()
		err := e.send("stream_resource", func() value {
			return dict(member{"uid", str(uid)}, member{"data_key", str(files[i].key)}, member{"mimetype", str("application/x-hdf5")},
				member{"uri", files[i].uri}, member{"parameters", files[i].parameters}, member{"run_start", str(b.start)})
		})
		if err != nil {
			return err
		}
		b.resources = append(b.resources, uid)
	}
	n, of := b.events, b.descriptor
	for _, resource := range b.resources {
		err := e.send("stream_datum", func() value {
			return dict(member{"stream_resource", str(resource)}, member{"uid", str(resource + "/" + strconv.Itoa(n))},
				member{"seq_nums", span(n + 1)}, member{"indices", span(n)}, member{"descriptor", str(of)})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// stopDocument ends the run that is open.
func (e *engine) stopDocument(status, reason string) error {
	b, now := e.bundle, time.Now()
	if b == nil {
		return &PlanError{"IllegalMessageSequence", "A 'close_run' message was received but there is no run open."}
	}
	e.bundle = nil
	return e.send("stop", func() value {
		events := dict()
		if b.events > 0 {
			events.members = []member{{"primary", whole(b.events)}}
		}
		return dict(member{"uid", str(newID())}, member{"time", clock(now)}, member{"run_start", str(b.start)},
			member{"exit_status", str(status)}, member{"reason", str(reason)}, member{"num_events", events})
	})
}

// within has a plan do something in a run of its own, as bluesky's run decorator
// does: the run is closed by the plan, with its error, and not by the run engine.
func (e *engine) within(ctx context.Context, md []member, f func() error) error {
	if err := e.openRun(ctx, md); err != nil {
		return err
	}
	err := f()
	switch {
	case err == nil:
		return CloseRun(ctx)
	case e.bundle == nil:
	case errors.Is(err, context.Canceled):
		status, _ := e.exit(nil)
		_ = e.stopDocument(status, "")
	default:
		_ = e.stopDocument("fail", err.Error())
	}
	return err
}

// exit is how a plan that ends with an error, or without, has ended, and why.
func (e *engine) exit(err error) (status, reason string) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	switch {
	case err != nil:
		return "fail", err.Error()
	case e.aborted && !e.stopped:
		return "abort", e.reason
	}
	return "success", ""
}

// span is one number, as a range.
func span(n int) value { return dict(member{"start", whole(n)}, member{"stop", whole(n + 1)}) }
