// Command bench compares adamant's gateway with nginx, haproxy and Caddy as plain
// reverse proxies before the same server, and shows what a crowd costs that waits.
//
//	cd bench && go run .                  # nginx and haproxy, if they are installed
//	cd bench && go run . -caddy           # and Caddy, which it builds: two minutes
//	cd bench && go run . -crowd 1000      # 1,000 callers in an outage of ten seconds
//
// The server answers as blueapi does and takes no time. Each proxy is a process; with
// two cores or more the proxies have the last to themselves, and the server and the
// callers share the first, so that all proxies get the same. Proxies take turns in short
// rounds and the medians of their rounds are told: what else the machine does hits all.
// Only ratios within one run mean something. The processor time of a proxy is measured
// beside, and is the steadiest of the figures.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.role, "role", "", "be one of the processes: upstream or gateway (it runs itself so)")
	flag.StringVar(&o.listen, "listen", "", "where that process listens")
	flag.StringVar(&o.upstream, "upstream", "", "which server a gateway is for")
	flag.StringVar(&o.profile, "profile", "", "where the gateway leaves a profile of its processor time")
	flag.BoolVar(&o.caddy, "caddy", false, "compare with Caddy too, after building it")
	flag.IntVar(&o.crowd, "crowd", 0, "do not compare, but have as many callers wait")
	flag.IntVar(&o.rounds, "rounds", 5, "how many rounds each proxy has")
	flag.DurationVar(&o.round, "round", 500*time.Millisecond, "how long a round is")
	conns := flag.String("conns", "1,16,256", "how many connections callers have")
	only := flag.String("only", "", "the proxies to compare, instead of all")
	flag.Parse()
	for s := range strings.SplitSeq(*conns, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			fmt.Fprintln(os.Stderr, "bench: -conns wants numbers")
			os.Exit(2)
		}
		o.conns = append(o.conns, n)
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	role, listen, upstream, profile string
	caddy                           bool
	crowd, rounds                   int
	round                           time.Duration
	conns                           []int
	only                            []string
}

func run(ctx context.Context, o options) error {
	switch {
	case o.role == "upstream":
		return serveUpstream(ctx, o.listen)
	case o.role == "gateway":
		return serveGateway(ctx, o)
	case o.role != "":
		return fmt.Errorf("there is no role %q", o.role)
	case o.crowd > 0:
		return crowd(ctx, o.crowd)
	}
	return compare(ctx, o)
}

// figures are what one proxy did in one round, or the medians of its rounds.
type figures struct{ rate, p50, p99, cpu float64 } // per second; seconds; seconds of processor time a request

// compare prints a table.
func compare(ctx context.Context, o options) error {
	contenders, end, err := start(ctx, o)
	defer end()
	if err != nil {
		return err
	}
	fmt.Printf("%s, %d cores, %d rounds of %v each\n", runtime.Version(), runtime.NumCPU(), o.rounds, o.round)
	for _, what := range requests() {
		for _, n := range o.conns {
			rounds := make([][]figures, len(contenders))
			for k := range o.rounds + 1 {
				for i, c := range contenders {
					f, err := c.round(ctx, what, n, o.round)
					if err != nil {
						return fmt.Errorf("%s: %w", c.name, err)
					}
					if k > 0 { // the first one warms up
						rounds[i] = append(rounds[i], f)
					}
				}
			}
			fmt.Printf("\n%s, %d connections\n", what.name, n)
			table(contenders, rounds)
		}
	}
	return nil
}

func table(contenders []contender, rounds [][]figures) {
	middle := make([]figures, len(rounds))
	nginx := -1
	for i, c := range contenders {
		middle[i] = medians(rounds[i])
		if c.name == "nginx" {
			nginx = i
		}
	}
	fmt.Printf("  %-10s %10s %12s %12s %10s %12s %12s\n", "", "requests/s", "p50 added", "p99 added", "cpu", "rate/nginx's", "cpu/nginx's")
	for i, c := range contenders {
		m := middle[i]
		fmt.Printf("  %-10s %10.0f", c.name, m.rate)
		if i == 0 {
			fmt.Printf(" %12s %12s\n", micro(m.p50)+" itself", micro(m.p99)+" itself")
			continue
		}
		fmt.Printf(" %12s %12s %10s", micro(m.p50-middle[0].p50), micro(m.p99-middle[0].p99), micro(m.cpu))
		if nginx >= 0 {
			fmt.Printf(" %12.2f %12.2f", m.rate/middle[nginx].rate, m.cpu/middle[nginx].cpu)
		}
		fmt.Println()
	}
}

func micro(seconds float64) string { return fmt.Sprintf("%.0f us", seconds*1e6) }

func medians(rounds []figures) figures {
	of := func(f func(figures) float64) float64 {
		all := make([]float64, len(rounds))
		for i, r := range rounds {
			all[i] = f(r)
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return figures{
		rate: of(func(f figures) float64 { return f.rate }), p50: of(func(f figures) float64 { return f.p50 }),
		p99: of(func(f figures) float64 { return f.p99 }), cpu: of(func(f figures) float64 { return f.cpu }),
	}
}

// at is the value below which a part of sorted values are.
func at[T cmp.Ordered](sorted []T, part float64) T {
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}
