package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interrupts is what becomes of the signals that ask the program to end. The first
// one ends the command's context, so that it can say what it leaves behind, and then
// the signals are let go of: a second one kills. While a command has taken the
// interrupts they come to it instead. A nil interrupts has none.
type interrupts struct {
	mu    sync.Mutex
	taker chan struct{} // nil if nobody has taken them
}

// context returns a context that ends at the first signal, and how to let go of the
// signals.
func (in *interrupts) context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				if s == os.Interrupt && in.pass() {
					continue
				}
				signal.Stop(signals)
				cancel()
				return
			case <-done:
				return
			}
		}
	}()
	var once sync.Once
	return ctx, func() {
		once.Do(func() {
			signal.Stop(signals)
			close(done)
			cancel()
		})
	}
}

// pass hands an interrupt to whoever has taken them, and reports whether somebody
// has. One that is not dealt with yet counts for all.
func (in *interrupts) pass() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.taker == nil {
		return false
	}
	select {
	case in.taker <- struct{}{}:
	default:
	}
	return true
}

// take has the interrupts come to the channel until they are given back.
func (in *interrupts) take() (taken <-chan struct{}, giveBack func()) {
	if in == nil {
		return nil, func() {}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.taker = make(chan struct{}, 1)
	return in.taker, func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.taker = nil
	}
}
