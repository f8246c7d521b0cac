package gateway

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// starts are the tasks that are being started, and those of which it is not known
// whether they were: a task is on the wire in at most one request to start it, whoever
// asks. The zero starts is empty.
type starts struct {
	mu       sync.Mutex
	underWay map[string]*start // by the id at the server
	// turn is taken by the one whose request is under way: of two tasks that are
	// started at the same moment the server may put one into its worker's queue, where
	// nothing reaches it (1.21.1).
	turn chan struct{}
	// unsettled are those whose request was sent and of which nobody knows what it did.
	unsettled map[string]unsettledStart
}

// unsettledStart is a start of which nobody knows what it did.
type unsettledStart struct {
	blueapi.Attachment
	// kept tells that the journal has it too, where others may settle it.
	kept bool
}

// EarlierStart is a start of a task that somebody else has begun, and of which nobody knows
// what it did.
type EarlierStart struct {
	blueapi.Attachment
	// Release gives it up if it is Owned, settled or not; it may be nil if it is not.
	Release func()
}

// start is one start of a task, for all who ask for it while it is under way.
type start struct {
	who    string // the credentials by which it is done
	ended  chan struct{}
	answer reply // once it has ended
	cancel context.CancelFunc

	// Guarded by the mutex of starts.
	waiting     int
	sending     bool // the request may have been sent: the rest is done for nobody too
	looked      bool // its answer was not what was hoped for
	withdrawing bool
	off         bool // it was cancelled, for nobody waited any more
}

// join finds the start of a task that is under way, or makes one, which its maker then
// has to carry out. What comes of one that is off, or another's, is not mine to know.
func (s *starts) join(id, who string) (st *start, first, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st = s.underWay[id]; st != nil {
		if mine = st.who == who && !st.off; mine {
			st.waiting++
		}
		return st, false, mine
	}
	st = &start{who: who, ended: make(chan struct{}), waiting: 1}
	if s.underWay == nil {
		s.underWay = make(map[string]*start)
	}
	s.underWay[id] = st
	return st, true, true
}

// goOnWith has a start be of another task too, which takes the place of the first: who
// asks for either meanwhile joins it.
func (s *starts) goOnWith(old, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.underWay[old]
	st.looked, st.withdrawing = false, false
	s.underWay[id] = st
}

// leave tells that a caller has gone. If none is left, and nothing was sent, the start
// is off.
func (s *starts) leave(st *start) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.waiting--; st.waiting == 0 && !st.sending {
		st.callOff()
	}
}

// notSent tells that the request was not sent after all, with the lock held: who has
// gone meanwhile takes it back.
func (st *start) notSent() {
	if st.sending = false; st.waiting == 0 {
		st.callOff()
	}
}

func (st *start) callOff() {
	st.off = true
	st.cancel()
}

// end tells those who wait for a start what became of it.
func (s *starts) end(st *start, answer reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, other := range s.underWay {
		if other == st {
			delete(s.underWay, id)
		}
	}
	st.answer = answer
	close(st.ended)
}

// trace follows the runs that the gateway's client starts.
func (s *starts) trace() *blueapi.RunTrace {
	note := func(id string, f func(*start)) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if st := s.underWay[id]; st != nil {
			f(st)
		}
	}
	return &blueapi.RunTrace{
		Starting:    func(id string) { note(id, func(st *start) { st.sending = true }) },
		NotSent:     func(id string) { note(id, (*start).notSent) },
		Looking:     func(id string, _ error) { note(id, func(st *start) { st.looked = true }) },
		Withdrawing: func(id string, _ error) { note(id, func(st *start) { st.looked, st.withdrawing = true, true }) },
	}
}

// take waits for the turn, which has to be given back.
func (s *starts) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *starts) giveBack() { <-s.turn }

// commit tells that the request is about to be sent, so that the start is carried out
// for nobody too.
func (s *starts) commit(st *start) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.sending = true
}

// history returns what the runs of a start have come to.
func (s *starts) history(st *start) (looked, withdrawing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return st.looked, st.withdrawing
}

// remember takes over what an earlier gateway left.
func (s *starts) remember(unsettled []blueapi.Attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn = make(chan struct{}, 1)
	s.unsettled = make(map[string]unsettledStart)
	for _, a := range unsettled {
		a.Step, a.Owned = blueapi.StepStarting, true
		s.unsettled[a.TaskID] = unsettledStart{a, true}
	}
}

// isUnsettled reports whether a request to start a task was sent whose fate is not
// known.
func (s *starts) isUnsettled(id string) (unsettledStart, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.unsettled[id]
	return a, ok
}

// unclear keeps a start in mind whose fate is not known.
func (s *starts) unclear(a blueapi.Attachment, kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.unsettled[a.TaskID]; !known {
		s.unsettled[a.TaskID] = unsettledStart{a, kept}
	}
}

// settled forgets a start whose fate is known.
func (s *starts) settled(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unsettled, id)
}

// outlived forgets the starts of tasks that were not made in the server's environment:
// it had another one at the time before, when they were there already.
func (s *starts) outlived(env string, before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.unsettled, func(_ string, a unsettledStart) bool {
		return a.EnvironmentID != env && a.At.Before(before)
	})
}

// list names the tasks that are being started, and those of which nobody knows.
func (s *starts) list(names *aliases) (underWay, unsettled []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	underWay, unsettled = []string{}, []string{}
	for id := range s.underWay {
		underWay = append(underWay, names.shown(id))
	}
	for id := range s.unsettled {
		unsettled = append(unsettled, names.shown(id))
	}
	slices.Sort(underWay)
	slices.Sort(unsettled)
	return slices.Compact(underWay), unsettled // a task and the one that took its place have one name
}
