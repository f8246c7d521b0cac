package main

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifySystemd tells systemd of a state, where there is one that wants to know. That it
// could not be told is no reason to fail.
func notifySystemd(state, text string) { _, _ = daemon.SdNotify(false, state+"\nSTATUS="+text) }

// watchdog tells systemd, if it wants to know, that the process lives, and how it is:
// which it cannot say if it does not.
func watchdog(ctx context.Context, text func() string) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval <= 0 {
		return
	}
	t := time.NewTicker(interval / 2)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			notifySystemd(daemon.SdNotifyWatchdog, text())
		case <-ctx.Done():
			return
		}
	}
}
