//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// canExec tells that processes inherit sockets on this system.
const canExec = true

// passedOn are the signals that a command gets when exec does.
func passedOn() []os.Signal {
	return []os.Signal{
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH,
	}
}

// signalCatcher keeps signals from ending this process.
type signalCatcher struct{ came chan os.Signal }

func catchSignals() signalCatcher {
	c := signalCatcher{came: make(chan os.Signal, 16)}
	for _, s := range passedOn() {
		if !signal.Ignored(s) { // or it would not be ignored by the command either
			signal.Notify(c.came, s)
		}
	}
	return c
}

func (c signalCatcher) stop() { signal.Stop(c.came) }

// early returns the end of a command that was to end before it began.
func (c signalCatcher) early() (commandEnd, bool) {
	for {
		select {
		case s := <-c.came:
			switch s {
			case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
				return endBySignal(s.(syscall.Signal)), true
			}
		default:
			return commandEnd{}, false
		}
	}
}

// passOn passes signals on to a process, until it is stopped. What a terminal sends has
// reached the process already: it sends to all that are in the foreground.
func (c signalCatcher) passOn(p *os.Process) (stop func()) {
	done := make(chan struct{})
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			select {
			case <-done:
				return
			case s := <-c.came:
				if !fromTerminal(s) {
					_ = p.Signal(s)
				}
			}
		}
	})
	return func() {
		close(done)
		passing.Wait()
	}
}

// fromTerminal reports whether a signal is one that a terminal sends, and this process
// one to which it does.
func fromTerminal(s os.Signal) bool {
	switch s {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH:
	default:
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer func() { _ = tty.Close() }()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == syscall.Getpgrp()
}

// endOfProcess is how a process ended, as shells tell it.
func endOfProcess(s *os.ProcessState) commandEnd {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return endBySignal(w.Signal())
	}
	return commandEnd{status: status(s.ExitCode())}
}

func endBySignal(s syscall.Signal) commandEnd {
	return commandEnd{status: status(128 + int(s)), signal: unix.SignalName(s)}
}

// tryFileLock locks a file for as long as it is open, and reports whether it could.
func tryFileLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// isOwn reports whether a file belongs to this user.
func isOwn(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
