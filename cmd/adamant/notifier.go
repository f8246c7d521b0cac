package main

import (
	"fmt"
	"sync"
	"time"
)

// waitUnsaid is how long a wait may last before the user is told of it.
const waitUnsaid = 2 * time.Second

// notifier tells the user at a terminal what is being waited for, if it takes
// long. The zero notifier says nothing. Its methods may be called from any
// goroutine.
type notifier struct {
	say func(format string, args ...any) // nil: nobody is there to be told

	mu    sync.Mutex
	timer *time.Timer
	what  string
	said  string
}

// notifier returns one that speaks if someone is at a terminal.
func (u *ui) notifier() *notifier {
	if !u.terminal || u.quiet {
		return &notifier{}
	}
	return &notifier{say: func(format string, args ...any) {
		if !u.progressing.Load() {
			u.note(format, args...)
		}
	}}
}

// progressEvery is how often the user is told how long a wait has lasted, if its
// length is usual.
const progressEvery = 10 * time.Second

// progress tells the user at a terminal what is being waited for, and for how long,
// until it is stopped. Meanwhile nothing else that is waited for is said.
func (u *ui) progress(what string) (stop func()) {
	n := u.notifier()
	if n.say != nil {
		n.say = u.note
	}
	u.progressing.Store(true)
	n.Waiting(what)
	begin, tick, done := time.Now(), time.NewTicker(progressEvery), make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				n.Waiting(fmt.Sprintf("%s (%.0f s so far)", what, time.Since(begin).Seconds()))
			}
		}
	})
	return func() {
		tick.Stop()
		close(done)
		ended.Wait()
		n.Over()
		u.progressing.Store(false)
	}
}

// Waiting says that a wait has begun or goes on, and for what: a phrase such as
// "the server to answer". Each phrase is said once in a wait.
func (n *notifier) Waiting(what string) {
	if n.say == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	changed := n.what != what
	n.what = what
	switch {
	case n.timer == nil:
		n.timer = time.AfterFunc(waitUnsaid, n.announce)
	case changed && n.said != "":
		n.timer.Reset(0) // this wait has lasted two seconds already
	}
}

// Over says that the wait has ended.
func (n *notifier) Over() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.timer != nil {
		n.timer.Stop()
		n.timer = nil
	}
	n.what, n.said = "", ""
}

// announce speaks under the lock, so that nothing is announced after Over.
func (n *notifier) announce() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.timer != nil && n.what != n.said {
		n.said = n.what
		n.say("waiting for %s", n.what)
	}
}
