package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// gatewayOptions are the options of adamant gateway. What is not given is the file's.
type gatewayOptions struct {
	config                  string
	upstream, stompUpstream string
	listen, stompListen     string
	admin, alias            string
	log, records, lifeline  string
	maxWaiting              int
	expose, abortOnLoss     bool
	noJournal, check        bool
}

func (a *app) gatewayCommand() *cobra.Command {
	var o gatewayOptions
	cmd := &cobra.Command{
		Use:   "gateway [OPTIONS]",
		Short: "Stand in front of a server for callers that cannot retry",
		Long: `Stand in front of a server for callers that cannot retry.

Callers use the gateway's address in place of the server's, and nothing else in
them changes: it waits for a server that is away, sends again what may be sent
again, starts each plan once, and says so where it cannot know.

The server is the one of --upstream, of the FILE, or of the options before the
command. Addresses are HOST:PORT, or fd:N for a socket that was inherited, as
systemd hands them down (from 3 on); the admin's may be unix:PATH. When all are
open, a line for each is printed: what it is for, and where it is.

At the end, when it is interrupted or told to, it takes no more callers and
serves those that are there; a second interrupt ends it at once. SIGHUP reads
the certificates of the listeners again. The admin listener has /metrics,
/-/status, /-/ready, /-/live and /-/drain.`,
		Example: `Examples:
  adamant gateway --upstream http://i22-blueapi --listen 127.0.0.1:8000
  adamant -c client.yaml gateway --stomp-listen 127.0.0.1:61613 --admin 127.0.0.1:9090
  adamant gateway --config gateway.yaml --check
`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			return a.gateway(cmd.Context(), cmd, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.config, "config", "", "the gateway's own YAML configuration `FILE`")
	flags.StringVar(&o.upstream, "upstream", "", "the server's `URL`")
	flags.StringVar(&o.listen, "listen", "", "`ADDRESS` that callers come to; port 0 is a free one (127.0.0.1:8000)")
	flags.StringVar(&o.stompUpstream, "stomp-upstream", "", "the server's message broker, `tcp://USER:PASSWORD@HOST:PORT`; better in a file, or in BLUEAPI_GATEWAY_STOMP_UPSTREAM")
	flags.StringVar(&o.stompListen, "stomp-listen", "", "`ADDRESS` at which callers find the events of that broker")
	flags.StringVar(&o.admin, "admin", "", "`ADDRESS` of the metrics and the state of the gateway")
	flags.BoolVar(&o.expose, "expose", false, "allow addresses that other machines can reach")
	flags.Var(newChoice(&o.alias, "on", "off", "auto"), "alias", "on: a task whose start was lost is replaced under its id; auto: if callers can be told of it (auto)")
	flags.Var((*duration)(&a.wait), "wait", "how long callers wait for a server that is away")
	flags.IntVar(&o.maxWaiting, "max-waiting", 0, "how many callers may wait (1000)")
	flags.BoolVar(&o.abortOnLoss, "abort-on-loss", false, "abort the plan of a caller whose WebSocket is lost, as the server does")
	flags.BoolVar(&o.noJournal, "no-journal", false, "keep no record of what is started: after a crash, it is not known")
	flags.Var(newChoice(&o.log, "text", "json"), "log", "form of the log on stderr (text)")
	flags.StringVar(&o.records, "records", "", "write a line of JSON for each request to `FILE`; - is stdout, fd:N is inherited")
	flags.StringVar(&o.lifeline, "lifeline", "", "end when this inherited pipe, `fd:N`, is closed")
	flags.BoolVar(&o.check, "check", false, "say what would be done, and end")
	return cmd
}

// choice is an option that is one of some words.
type choice struct {
	into  *string
	words []string
}

func newChoice(into *string, words ...string) *choice { return &choice{into, words} }

// Set takes one of the words.
func (c *choice) Set(s string) error {
	if slices.Contains(c.words, s) {
		*c.into = s
		return nil
	}
	return fmt.Errorf("'%s' is not one of '%s'", s, strings.Join(c.words, "', '"))
}

func (c *choice) String() string { return "" }

// Type is how the help shows what to give.
func (c *choice) Type() string { return strings.Join(c.words, "|") }

// gateway runs a gateway until the context ends.
func (a *app) gateway(ctx context.Context, cmd *cobra.Command, o gatewayOptions) error {
	plan, err := a.planGateway(cmd, o)
	if err != nil {
		return err
	}
	if o.check {
		if err := plan.loadTLS(); err != nil {
			return err
		}
		return a.ui.result(plan.text())
	}
	if o.lifeline != "" {
		var cancel context.CancelFunc
		if ctx, cancel, err = lifeline(ctx, o.lifeline); err != nil {
			return err
		}
		defer cancel()
	}
	p := &gatewayProcess{app: a, plan: plan}
	defer p.close()
	if err := p.open(ctx); err != nil {
		return err
	}
	if err := a.ui.result(p.lines()); err != nil {
		return err
	}
	return p.serve(ctx)
}
