package main

import (
	"io"
	"os"
	"time"

	"github.com/adamant-go/adamant/blueapi"
)

// display shows what a plan does. Its zero value shows nothing.
type display struct {
	table  *table  // of its documents, on stdout; nil: not shown
	screen *screen // nil: the zero display
}

// display returns what shows a run: the table on stdout, unless that is for JSON, and
// bars on a terminal. There are none if the table goes to another program, such as tee:
// where it is on the same terminal, bars would wipe it off.
func (a *app) display(plan string, f format) display {
	bars := a.ui.voice == asAdamant && (f == jsonText || !isPipe(a.ui.out))
	d := display{screen: newScreen(a.ui, plan, bars)}
	if f != jsonText {
		d.table = newTable(d.screen.stdout(), time.Local)
	}
	return d
}

func isPipe(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
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
