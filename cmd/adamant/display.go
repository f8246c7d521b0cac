package main

import (
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// display shows what a plan does. Its zero value shows nothing.
type display struct {
	table  *table  // of its documents, on stdout; nil: not shown
	screen *screen // nil: the zero display
}

// display returns what shows a run: the table on stdout, unless that is for JSON, and
// bars on a terminal.
func (a *app) display(plan string, f format) display {
	d := display{screen: newScreen(a.ui, plan, a.ui.voice == asAdamant)}
	if f != jsonText {
		d.table = newTable(d.screen.stdout(), time.Local)
	}
	return d
}

// event shows an event.
func (d display) event(e blueapi.Event) {
	d.screen.event(e)
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
