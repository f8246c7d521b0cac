package main

import (
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
	return &notifier{say: u.note}
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
