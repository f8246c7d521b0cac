// Command adamant drives a blueapi server and keeps going through network
// glitches. Its controller commands stand in for blueapi's own, byte for byte;
// its top-level commands are the same operations with exit statuses that mean
// something.
package main

import (
	"context"
	"os"
)

func main() {
	u := newUI(os.Stdin, os.Stdout, os.Stderr)
	ctx, _ := u.interrupts.context(context.Background()) // until the program's end
	os.Exit(int(run(ctx, os.Args, u)))
}
