package main

import (
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// display shows what a plan does. Its zero value shows nothing.
type display struct {
	table  *table
	screen interface {
		event(blueapi.Event)
		hush()
		speak()
		close()
	}
}

// display returns what shows a run: the table of its documents on stdout, unless that
// is for JSON, and bars on a terminal.
func (a *app) display(_ string, f format) display {
	var d display
	if f != jsonText {
		d.table = newTable(a.ui.out, time.Local)
	}
	return d
}

// event shows an event.
func (d display) event(e blueapi.Event) {
	if d.screen != nil {
		d.screen.event(e)
	}
	if d.table != nil && e.Data != nil {
		_ = d.table.document(*e.Data) // one that cannot be read is left out
	}
}

// hush holds back what would disturb a question, until speak.
func (d display) hush() {
	if d.screen != nil {
		d.screen.hush()
	}
}

func (d display) speak() {
	if d.screen != nil {
		d.screen.speak()
	}
}

// close may be called more than once.
func (d display) close() {
	if d.screen != nil {
		d.screen.close()
	}
}
