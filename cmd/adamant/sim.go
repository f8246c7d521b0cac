package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// simOptions are the options of sim.
type simOptions struct {
	listen, control, stomp string
	expose                 bool
	faults                 simFaults
	reload                 time.Duration
	noBroker               bool
	token                  string
}

// simFaults are faults in words, as sim.ParseFault has them.
type simFaults []sim.Fault

func (f *simFaults) Set(text string) error {
	fault, err := sim.ParseFault(text)
	*f = append(*f, fault)
	return err
}
func (f *simFaults) String() string { return "" }
func (f *simFaults) Type() string   { return "FAULT" }

func (a *app) simCommand() *cobra.Command {
	o := simOptions{listen: "127.0.0.1:8000", control: "127.0.0.1:0"}
	cmd := &cobra.Command{
		Use:   "sim [OPTIONS]",
		Short: "Serve a simulated blueapi that fails when told to",
		Long: `Serve a simulated blueapi that fails when told to.

It is an image of blueapi 1.21.1 without hardware, and runs until it is
interrupted. When it is ready it prints its URL, in a second line that of its
controls, and in a third that of its message broker, if --stomp is given. With
-v it logs each request.

A FAULT says what happens, and may say to which requests and to how many of them:

  status=503 GET /plans            a proxy answers in the server's place
  lose-answer PUT /worker/task     it is done, and the answer is lost
  lose-request first=3             the request does not arrive
  delay=2s, stall=2s, cut=40, twice=1s, late=1s, instead=504; nth=K

The controls take and show faults at /faults, and know /freeze, /unfreeze,
/restart, /terminate, /reload, /broker/stop, /broker/start, /runs and
/exchanges.`,
		Example: `Examples:
  adamant sim &
  adamant run count detectors=det num=3 -i cm12345-1

  adamant sim --listen 127.0.0.1:8001 --fault 'lose-answer PUT /worker/task first=1' &
  adamant -v -h http://127.0.0.1:8001 run nap seconds=2 -i cm12345-1

  adamant sim --listen 127.0.0.1:8002 --control 127.0.0.1:8003 &
  curl -d '{"fault": "status=503 first=3"}' http://127.0.0.1:8003/faults
  adamant -h http://127.0.0.1:8002 state
`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			for _, flag := range []string{"listen", "control", "stomp"} {
				if flag == "stomp" && o.stomp == "" {
					continue
				}
				if err := checkExposed(cmd.Flag(flag).Value.String()); err != nil && !o.expose {
					return usageError{cmd, fmt.Sprintf("Invalid value for '--%s': %v", flag, err)}
				}
			}
			return a.sim(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.listen, "listen", o.listen, "`ADDRESS` to serve blueapi at; port 0 is a free one")
	flags.StringVar(&o.control, "control", o.control, "`ADDRESS` to serve the controls at")
	flags.StringVar(&o.stomp, "stomp", "", "`ADDRESS` of the message broker; without it there is no way to it")
	flags.BoolVar(&o.expose, "expose", false, "allow addresses that other machines can reach")
	flags.Var(&o.faults, "fault", "a fault from the beginning; may be given several times")
	flags.Var((*duration)(&o.reload), "reload-time", "how long a reload of the environment takes (6s)")
	flags.BoolVar(&o.noBroker, "no-broker", false, "the message broker is away until /broker/start: the environment is not initialized, and no plan runs")
	flags.StringVar(&o.token, "token", "", "a `TOKEN` that requests must bear")
	return cmd
}

// checkExposed refuses an address at which other machines could reach a server
// that asks nobody who they are.
func checkExposed(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s can be reached from other machines; add --expose if that is meant", addr)
}

// sim serves the simulator until the context ends or the program is told to.
func (a *app) sim(ctx context.Context, o simOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()

	s := sim.Server{ReloadTime: o.reload, NoBroker: o.noBroker, Token: o.token}
	defer s.Close()
	handler := s.ControlHandler()
	if a.level == verbose {
		handler = logExchanges(&s, handler, a.ui.observer(a.level).log)
	}
	s.Inject(o.faults...)

	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.control)
	if err != nil {
		return fmt.Errorf("--control: %w", err)
	}
	control := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = control.Serve(l)
	}()
	defer func() {
		_ = control.Close()
		<-ended
	}()

	addr, err := s.Listen(o.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	ready := fmt.Sprintf("http://%s\ncontrol: http://%s\n", addr, l.Addr())
	if o.stomp != "" {
		broker, err := s.ListenBroker(o.stomp)
		if err != nil {
			return fmt.Errorf("--stomp: %w", err)
		}
		ready += fmt.Sprintf("stomp: tcp://%s\n", broker)
	}
	if err := a.ui.result(ready); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// logExchanges logs what goes through a server as a fault that changes nothing
// and is the first in line. As it would end with the others, it comes back when
// the controls heal them.
func logExchanges(s *sim.Server, controls http.Handler, log *slog.Logger) http.Handler {
	observe := func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		a := next()
		attrs := []slog.Attr{slog.Int("n", x.N), slog.String("request", x.Method+" "+x.URL.RequestURI())}
		if a.Status > 0 {
			attrs = append(attrs, slog.Int("status", a.Status))
		}
		if a.End != sim.Whole {
			attrs = append(attrs, slog.String("end", a.End.String()))
		}
		log.LogAttrs(context.Background(), slog.LevelInfo, "exchange", append(attrs, rounded("took", time.Since(x.Time)))...)
		return a
	}
	s.Inject(observe)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		controls.ServeHTTP(w, r)
		if r.Method == http.MethodDelete {
			s.Inject(observe)
		}
	})
}
