//go:build unix && !linux

package main

import "syscall"

// apart keeps a process from a terminal's signals.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
