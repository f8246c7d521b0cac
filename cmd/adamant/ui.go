package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/term"
)

// Rules of output:
//
//   - stdout has the result and nothing else, so that it can be piped.
//   - stderr has all messages. An error of a command of adamant's own, and
//     every remark, begins with "adamant: "; an error under controller begins
//     with "Error: ", as blueapi's do. Wrong use is reported in click's words
//     everywhere.
//   - What the server said is shown without control characters on stderr: a
//     message cannot move the cursor. Our own need a terminal.
//   - -q leaves errors only. A wait is announced after two seconds, once, and
//     only on a terminal (notifier).
//   - A result that could not be written is an error.

// ui is where a command talks to its user. Messages may come from any goroutine.
type ui struct {
	out, err io.Writer
	terminal bool // err is one
	voice    voice
	quiet    bool

	messages sync.Mutex // one at a time
}

// voice is whose words are used.
type voice int

const (
	asAdamant voice = iota
	asBlueapi
)

func newUI(out, err *os.File) *ui {
	return &ui{out: out, err: err, terminal: term.IsTerminal(int(err.Fd()))}
}

// result prints a result.
func (u *ui) result(text string) error {
	if _, err := io.WriteString(u.out, text); err != nil {
		return fmt.Errorf("cannot write the result: %w", err)
	}
	return nil
}

// note prints a remark that is no error.
func (u *ui) note(format string, args ...any) {
	if !u.quiet {
		u.message("adamant: " + fmt.Sprintf(format, args...))
	}
}

// message prints a message that has its prefix.
func (u *ui) message(text string) {
	u.messages.Lock()
	defer u.messages.Unlock()
	fmt.Fprintln(u.err, printable(text))
}

// errorf words an error of a command.
func (v voice) errorf(format string, args ...any) string {
	prefix := "adamant: "
	if v == asBlueapi {
		prefix = "Error: "
	}
	return prefix + fmt.Sprintf(format, args...)
}

// printable shows control characters other than newline and tab as \x1b.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			fmt.Fprintf(&b, `\x%02x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
