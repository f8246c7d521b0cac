package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/config"
)

// broker returns the message broker that the configuration names, nil if it
// names none.
func (a *app) broker() (*blueapi.Broker, error) {
	c, err := a.config()
	if err != nil || !c.Stomp.Enabled {
		return nil, err
	}
	return brokerOf(c.Stomp)
}

func brokerOf(s config.Stomp) (*blueapi.Broker, error) {
	u, err := url.Parse(s.URL) // which config.Load has checked
	if err != nil {
		return nil, err
	}
	if u.Hostname() == "" || u.Port() == "" {
		return nil, fmt.Errorf("stomp.url: %q lacks the host or the port; write tcp://HOST:61613", u.Redacted())
	}
	return &blueapi.Broker{
		Address: net.JoinHostPort(u.Hostname(), u.Port()),
		Login:   s.Username, Passcode: s.Password,
	}, nil
}

// listenOptions are the options of adamant listen.
type listenOptions struct {
	types  eventTypes
	task   string
	record string
	replay string
	speed  float64
	limit  time.Duration // how long; 0 is until it is interrupted
}

// eventTypes are the types of events that are wanted: kinds, or names of documents.
// Without any, all are.
type eventTypes []string

func eventKinds() []string { return []string{"worker", "progress", "data"} }

// documents are the kinds of documents that there are (bluesky's event model).
func documents() []string {
	return []string{
		"start", "descriptor", "event", "event_page", "stream_resource", "stream_datum", "resource", "datum", "stop",
	}
}

// Set adds one.
func (t *eventTypes) Set(s string) error {
	if known := slices.Concat(eventKinds(), documents()); !slices.Contains(known, s) {
		return fmt.Errorf("'%s' is not one of '%s'", s, strings.Join(known, "', '"))
	}
	*t = append(*t, s)
	return nil
}
func (t *eventTypes) String() string { return "" }

// Type is how the help shows what to give.
func (t *eventTypes) Type() string { return "TYPE" }

// wants tells whether an event is to be shown. A gap always is.
func (o *listenOptions) wants(e blueapi.Event) bool {
	if e.Gap != nil {
		return true
	}
	if o.task != "" && e.TaskID != o.task {
		return false
	}
	return len(o.types) == 0 || slices.ContainsFunc(o.types, func(t string) bool {
		switch t {
		case "worker":
			return e.Worker != nil
		case "progress":
			return e.Progress != nil
		case "data":
			return e.Data != nil
		}
		return e.Data != nil && e.Data.Name == t
	})
}

func (a *app) listenCommand() *cobra.Command {
	var o listenOptions
	f := compact
	cmd := &cobra.Command{
		Use:   "listen [OPTIONS]",
		Short: "Print the server's events as they come",
		Long: `Print the server's events as they come, until it is interrupted.

They come by the message broker that the configuration names (stomp). When the
broker is away it is waited for, and stderr says from when until when events may be
missing; in JSON, which has one event a line, a line {"gap": ...} does so too.

A recording has what is printed, and when it came. It can be played without a
server or a broker.`,
		Example: `Examples:
  adamant -c lab.yaml listen --type start --type stop
  adamant -c lab.yaml listen -o json --for 10m --record events.ndjson
  adamant listen --replay events.ndjson --speed 10
`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			if o.replay != "" && o.record != "" {
				return usageError{cmd, "--record makes no sense with --replay."}
			}
			if o.speed < 0 {
				return usageError{cmd, "Invalid value for '--speed': it is negative."}
			}
			return a.listen(cmd.Context(), o, f)
		},
	}
	flags := cmd.Flags()
	flags.Var(&o.types, "type", strings.Join(eventKinds(), ", ")+", or the kind of a document, such as start or stop; may be given several times (all)")
	flags.Var((*taskOption)(&o.task), "task", "only events of the task with this `ID`")
	flags.StringVar(&o.record, "record", "", "add what is printed to a recording, `FILE`")
	flags.StringVar(&o.replay, "replay", "", "play a recording, `FILE`, instead of listening")
	flags.Float64Var(&o.speed, "speed", 1, "how much faster a recording is played; 0 is at once")
	flags.Var((*duration)(&o.limit), "for", "stop listening after that time (when it is interrupted)")
	a.addOwn(flags, &f)
	return cmd
}

// eventSource is where events come from. Next returns io.EOF when there are no more.
type eventSource interface {
	Next(ctx context.Context) (blueapi.Event, error)
}

// listen prints events until the source ends, the time is over, or the user interrupts:
// none of these is an error.
func (a *app) listen(ctx context.Context, o listenOptions, f format) error {
	ctx, cancel := withTimeout(ctx, o.limit, 0)
	defer cancel()
	if o.replay != "" {
		return a.replay(ctx, o, f)
	}
	b, err := a.broker()
	if err != nil {
		return err
	}
	if b == nil {
		return errors.New("no message broker is configured: name one under stomp, with enabled: true, in a file given by -c")
	}
	return a.listenTo(ctx, b, o, f)
}

// replay prints the events of a recording.
func (a *app) replay(ctx context.Context, o listenOptions, f format) error {
	p, err := openPlayer(o.replay, o.speed)
	if err != nil {
		return fmt.Errorf("--replay: %w", err)
	}
	defer func() { _ = p.close() }() // it was only read
	out := &listening{app: a, f: f, o: o}
	err = out.follow(ctx, p)
	if p.bad > 0 && p.lines > 1 {
		a.ui.note("%s: %d of %d lines could not be read", o.replay, p.bad, p.lines)
	}
	return out.end(ctx, err)
}

// listenTo prints the events that a broker delivers.
func (a *app) listenTo(ctx context.Context, b *blueapi.Broker, o listenOptions, f format) error {
	out := &listening{app: a, f: f, o: o}
	if o.record != "" {
		var err error
		if out.record, err = openRecordFile(o.record); err != nil {
			return fmt.Errorf("--record: %w", err)
		}
	}
	l, err := a.subscribe(ctx, b)
	if err != nil {
		err = out.end(ctx, err)
		if err == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("the message broker at %s was not reached within %v", b.Address, o.limit)
		}
		return err
	}
	defer l.Close()
	a.ui.note("listening to %s", b.Address)
	return out.end(ctx, out.follow(ctx, l))
}

// subscribePatience is how long a broker may be away in the beginning, when it may be a
// wrong address. An outage of one second is outlasted.
const subscribePatience = 3 * time.Second

// subscribe waits until events are delivered.
func (a *app) subscribe(ctx context.Context, b *blueapi.Broker) (*blueapi.Listener, error) {
	l := b.Listen(ctx)
	patience, cancel := context.WithTimeout(ctx, max(subscribePatience, a.wait))
	defer cancel()
	err := l.Subscribed(patience)
	if err == nil {
		return l, nil
	}
	l.Close()
	switch {
	case ctx.Err() != nil:
		return nil, err
	case patience.Err() == nil:
		return nil, fmt.Errorf("the message broker at %s refuses: %w", b.Address, err)
	}
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, cause := range all.Unwrap() {
			if !errors.Is(cause, context.DeadlineExceeded) {
				return nil, fmt.Errorf("the message broker cannot be reached: %w", cause)
			}
		}
	}
	return nil, fmt.Errorf("the message broker at %s does not answer", b.Address)
}

// listening prints and records events.
type listening struct {
	app    *app
	f      format
	o      listenOptions
	record *recordFile // nil: nothing is recorded

	shown, gaps int
}

// follow prints events until there are no more.
func (l *listening) follow(ctx context.Context, source eventSource) error {
	out := onTerminal(l.app.ui.out)
	for {
		e, err := source.Next(ctx)
		if err != nil {
			return err
		}
		if !l.o.wants(e) {
			continue
		}
		if l.record != nil {
			if err := l.record.add(e); err != nil {
				return fmt.Errorf("--record: %w", err)
			}
		}
		if e.Gap != nil {
			l.gaps++
			l.app.ui.note("%s", gapText(*e.Gap))
			if l.f != jsonText || l.app.ui.voice == asBlueapi {
				continue
			}
		} else {
			l.shown++
		}
		text, err := l.text(e)
		if err != nil {
			l.app.ui.note("an event that could not be read: %v", err)
			continue
		}
		if _, err := io.WriteString(out, text); err != nil {
			return fmt.Errorf("cannot write the result: %w", err)
		}
	}
}

// text is the event in words, or, if it is of no known kind, in JSON as it came.
func (l *listening) text(e blueapi.Event) (string, error) {
	text, err := l.f.event(e)
	if errors.Is(err, errUnknownEvent) && l.f == jsonText && l.app.ui.voice == asAdamant {
		var v any
		if v, err = parsePython(e.Raw); err == nil {
			text = dumps(v, 0) + "\n"
		}
	}
	return text, err
}

// end closes the recording, and says what was seen. That the context has ended is no
// error, and neither is the end of a recording.
func (l *listening) end(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, io.EOF) {
		err = nil
	}
	if l.record != nil {
		if failed := l.record.close(); failed != nil && err == nil {
			err = fmt.Errorf("--record: %w", failed)
		}
	}
	if err != nil {
		return err
	}
	events := "events"
	if l.shown == 1 {
		events = "event"
	}
	if l.gaps > 0 {
		events += ", with gaps"
	}
	l.app.ui.note("%d %s", l.shown, events)
	return nil
}

func (a *app) controllerListen(f *format) *cobra.Command {
	return &cobra.Command{
		Use:   "listen [OPTIONS]",
		Short: "Print the server's events as they come",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			return a.listenAsBlueapi(cmd.Context(), *f)
		},
	}
}

// listenAsBlueapi prints events until a line is typed.
func (a *app) listenAsBlueapi(ctx context.Context, f format) error {
	b, err := a.broker()
	if err != nil {
		return err
	}
	if b == nil {
		return errors.New("Message bus needs to be configured") //nolint:staticcheck // blueapi's words
	}
	a.ui.message("Subscribing to all bluesky events from " + b.Address)
	l, err := a.subscribe(ctx, b)
	switch {
	case ctx.Err() != nil:
		return endOfInterrupt(asBlueapi)
	case err != nil:
		return err
	}
	defer l.Close()
	a.ui.message("Press enter to exit")
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() { // which nothing ends but the program's end, if nothing is typed
		if line, _ := bufio.NewReader(a.ui.in).ReadString('\n'); line != "" {
			stop(errEnter)
		} else {
			stop(io.EOF)
		}
	}()
	err = (&listening{app: a, f: f}).follow(reading, l)
	switch why := context.Cause(reading); {
	case why == nil:
		return err
	case errors.Is(why, errEnter):
		return nil
	default:
		return endOfInterrupt(asBlueapi)
	}
}

// errEnter says that the user is done with listening.
var errEnter = errors.New("enter was pressed")
