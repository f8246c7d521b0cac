package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// outage is how long the server is away.
const outage = 10 * time.Second

// crowd has callers wait at a gateway for a server that is away, and tells what that
// costs the gateway's process, and how they are let go.
func crowd(ctx context.Context, callers int) (err error) {
	f := &farm{}
	defer f.end()
	if f.dir, err = os.MkdirTemp("", "adamant-bench."); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	upstream, front := free(ctx), free(ctx)
	server, err := f.spawn(ctx, 0, upstream, self, "-role", "upstream", "-listen", upstream)
	if err != nil {
		return err
	}
	gateway, err := f.spawn(ctx, 1, front, self, "-role", "gateway", "-listen", front, "-upstream", upstream)
	if err != nil {
		return err
	}
	empty := memory(gateway)
	what := requests()[1] // they differ: nobody's answer is another's
	conns := make([]net.Conn, callers)
	for i := range conns {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", front)
		if err != nil {
			return err
		}
		defer conn.Close()
		conns[i] = conn
		if _, err := ask(conn, []byte(what.text(i)), time.Time{}); err != nil {
			return err
		}
	}
	time.Sleep(10 * time.Second) // its connections to the server are gone
	idle := memory(gateway)
	fmt.Printf("%d callers connected: %d KiB each (the process has %d MiB, without them %d)\n", callers, (idle-empty)/callers/1024, idle>>20, empty>>20)

	if err := server.Kill(); err != nil {
		return err
	}
	answered := make([]time.Time, callers)
	errs := make([]error, callers)
	begin := time.Now()
	var all sync.WaitGroup
	for i, conn := range conns {
		all.Go(func() {
			_, errs[i] = ask(conn, []byte(what.text(i)), time.Time{})
			answered[i] = time.Now()
		})
	}
	time.Sleep(outage / 2)
	waiting := memory(gateway)
	fmt.Printf("and waiting: %d KiB each beyond that (%d MiB)\n", (waiting-idle)/callers/1024, waiting>>20)
	time.Sleep(time.Until(begin.Add(outage)))
	if _, err := f.spawn(ctx, 0, upstream, self, "-role", "upstream", "-listen", upstream); err != nil {
		return err
	}
	back := time.Now()
	all.Wait()
	slices.SortFunc(answered, time.Time.Compare)
	fmt.Printf("the server is back: first answer after %v, last %v after that\n",
		answered[0].Sub(back).Round(time.Millisecond), answered[callers-1].Sub(answered[0]).Round(time.Millisecond))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Println("all were saved")
	return nil
}

// memory is what a process has resident, in bytes, after it has given back what it does
// not use.
func memory(gateway *os.Process) int {
	_ = gateway.Signal(syscall.SIGUSR1)
	time.Sleep(time.Second)
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", gateway.Pid))
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, _ := strconv.Atoi(strings.Fields(rest + " 0")[0])
	return kib << 10
}

// giveBack has this process do so when it is told to.
func giveBack(ctx context.Context) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	go func() {
		for {
			select {
			case <-told:
				debug.FreeOSMemory()
			case <-ctx.Done():
				return
			}
		}
	}()
}
