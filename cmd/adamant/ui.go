package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
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
	in       io.Reader
	out, err io.Writer
	terminal bool // err is one
	keyboard bool // in is one, of a terminal
	voice    voice
	quiet    bool

	interrupts *interrupts // nil: they end the command
	keys       keys        // of in

	messages    sync.Mutex // one at a time
	progressing atomic.Bool
}

// voice is whose words are used.
type voice int

const (
	asAdamant voice = iota
	asBlueapi
)

func newUI(in, out, err *os.File) *ui {
	return &ui{
		in: in, out: out, err: err,
		terminal: term.IsTerminal(int(err.Fd())), keyboard: term.IsTerminal(int(in.Fd())),
		interrupts: new(interrupts),
	}
}

// canAsk tells whether somebody is there to answer a question.
func (u *ui) canAsk() bool { return u.terminal && u.keyboard }

// ask asks a question to which anything but y or yes is no. The error is that of the
// context, if it ends first.
func (u *ui) ask(ctx context.Context, question string) (bool, error) {
	u.messages.Lock()
	fmt.Fprint(u.err, question+" [y/N] ")
	u.messages.Unlock()
	select {
	case line := <-u.keys.lines(u.in):
		line = strings.ToLower(line)
		return line == "y" || line == "yes", nil
	case <-ctx.Done():
		fmt.Fprintln(u.err)
		return false, ctx.Err()
	}
}

// keys reads lines from a keyboard. Its zero value has not begun to.
type keys struct {
	once sync.Once
	line chan string
}

// lines returns the lines that are typed, without space around them, and is closed at
// the end of the input. Nothing ends the reading of a keyboard but the program's end, so
// there is one reader.
func (k *keys) lines(in io.Reader) <-chan string {
	k.once.Do(func() {
		k.line = make(chan string)
		go func() {
			for r := bufio.NewReader(in); ; {
				line, err := r.ReadString('\n')
				if line != "" {
					k.line <- strings.TrimSpace(line)
				}
				if err != nil {
					close(k.line)
					return
				}
			}
		}()
	})
	return k.line
}

// forget drops a line that was typed before there was a question. There is one at most:
// a terminal drops the others itself at an interrupt.
func (k *keys) forget() {
	select {
	case <-k.line:
	default:
	}
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
