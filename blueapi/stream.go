package blueapi

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// subscribeLimit is how long a run waits for its subscription before it goes on
	// without: events are pleasant, and not what decides.
	subscribeLimit = 3 * time.Second
	// lastWords is how long the end event of a plan that has ended is waited for,
	// from the event before it. With polling each second, a run ends within two
	// seconds of its plan although that event is lost.
	lastWords = 500 * time.Millisecond
)

// stream is the events of a run. The zero stream has none.
type stream struct {
	listener *Listener
	cancel   context.CancelFunc
	begun    time.Time
	blind    bool // that was told
	// away is set while events may be missing that were not told.
	away bool
	// late says that the plan may have ended before there was a subscription.
	late bool
	// heard says that an event of the run's task has come.
	heard bool
	// held is an event that was taken and not dealt with, because the caller of Wait
	// left.
	held *Event
	// last is the event before, as it came.
	last []byte
	// ended says that the end event has come.
	ended bool
}

// open subscribes. The subscription outlives ctx, as the run does.
func (s *stream) open(ctx context.Context, b *Broker) {
	if b == nil {
		return
	}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.listener, s.begun = b.Listen(ctx), time.Now()
}

// ready waits until the broker has confirmed the subscription, so that no event of a
// task that is submitted afterwards is missed, or until it has taken too long. Half of
// the caller's time is left for what decides.
func (s *stream) ready(ctx context.Context, t *RunTrace) {
	if s.listener == nil {
		return
	}
	limit := time.Until(s.begun.Add(subscribeLimit))
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)/2)
	}
	limited, cancel := context.WithTimeoutCause(ctx, limit, errUnconfirmed)
	defer cancel()
	if err := s.listener.Subscribed(limited); err != nil && ctx.Err() == nil {
		s.goBlind(t, err)
	}
}

// errUnconfirmed is why a run goes on without events, if nothing else is known.
var errUnconfirmed = errors.New("it has not confirmed the subscription in time")

func (s *stream) goBlind(t *RunTrace, err error) {
	if s.blind {
		return
	}
	s.blind = true
	if t.Blind != nil {
		t.Blind(err)
	}
}

// pump hands events over until ctx ends, or the broker refuses for good; then it says
// why and closes the channel. The channel is nil, and so never ready, if there are
// none.
func (s *stream) pump(ctx context.Context, routines *sync.WaitGroup, why *error) <-chan Event {
	if s.listener == nil {
		return nil
	}
	events := make(chan Event)
	routines.Go(func() {
		defer close(events)
		for {
			e := s.held
			if e == nil {
				next, err := s.listener.Next(ctx)
				if err != nil {
					*why = err
					return
				}
				e = &next
			}
			s.held = e
			select {
			case events <- *e:
				s.held = nil
			case <-ctx.Done():
				*why = ctx.Err()
				return
			}
		}
	})
	return events
}

// close ends the subscription, in good order if all was well in the end: else the
// broker may not be there to take leave of.
func (s *stream) close() {
	if s.listener == nil {
		return
	}
	if !s.ended {
		s.cancel()
	}
	s.listener.Close()
	s.cancel()
	s.listener = nil
}

// errNoEnd is why a stream of events that seemed whole has a gap at its end.
var errNoEnd = errors.New("blueapi: the plan has ended, and no event said so")
