// Command adamant drives a blueapi server and keeps going through network
// glitches. Its controller commands stand in for blueapi's own, byte for byte;
// its top-level commands are the same operations with exit statuses that mean
// something.
package main

import (
	"context"
	"os"
	"os/signal"
)

func main() {
	// The first interrupt ends the context, so that the command can say what
	// it leaves behind. Then the signal is let go of: a second one kills.
	ctx, release := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, release)
	os.Exit(int(run(ctx, os.Args, newUI(os.Stdin, os.Stdout, os.Stderr))))
}
