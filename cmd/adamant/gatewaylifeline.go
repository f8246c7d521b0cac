package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
)

// lifeline returns a context that ends when the pipe at fd:N does: when whoever has
// started this process and holds its other end is there no more.
func lifeline(ctx context.Context, addr string) (context.Context, context.CancelFunc, error) {
	n, ok := strings.CutPrefix(addr, "fd:")
	if !ok {
		return nil, nil, fmt.Errorf("--lifeline: %q is not an inherited pipe such as fd:3", addr)
	}
	fd, err := parseFD(n)
	if err != nil {
		return nil, nil, fmt.Errorf("--lifeline: %w", err)
	}
	f := os.NewFile(fd, addr)
	if f == nil {
		return nil, nil, fmt.Errorf("--lifeline: %s was not inherited", addr)
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() { // until the pipe's end, or the program's
		_, _ = io.Copy(io.Discard, f)
		cancel()
	}()
	return ctx, cancel, nil
}
