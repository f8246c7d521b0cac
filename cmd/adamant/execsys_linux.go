package main

import "syscall"

// apart keeps a process from a terminal's signals, and ends it when the thread ends
// that has started it.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
}
