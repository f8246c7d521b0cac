//go:build !unix

package main

import (
	"io/fs"
	"os"
	"syscall"
)

// canExec tells that processes inherit sockets on this system.
const canExec = false

// signalCatcher keeps signals from ending this process.
type signalCatcher struct{}

func catchSignals() signalCatcher                      { return signalCatcher{} }
func (signalCatcher) stop()                            {}
func (signalCatcher) early() (commandEnd, bool)        { return commandEnd{}, false }
func (signalCatcher) passOn(*os.Process) (stop func()) { return func() {} }

func endOfProcess(s *os.ProcessState) commandEnd { return commandEnd{status: status(s.ExitCode())} }
func tryFileLock(*os.File) (bool, error)         { return true, nil }
func isOwn(fs.FileInfo) bool                     { return false }
func apart() *syscall.SysProcAttr                { return nil }
