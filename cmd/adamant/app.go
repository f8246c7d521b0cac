package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/config"
	"github.com/adamant-go/adamant/retry"
)

// app is what the commands share: where they talk to, and the options given
// before the command.
type app struct {
	ui *ui

	configs []string
	host    string
	level   level
	wait    time.Duration // for a server that is away; 0 is as long as usual
	version bool

	telemetry *telemetry
	calls     callLog
}

// level is how much is said on stderr.
type level int

const (
	normal level = iota
	verbose
	quiet
)

// run runs one command line and returns what to exit with.
func run(ctx context.Context, argv []string, u *ui) status {
	a := &app{ui: u}
	root := a.rootCommand(filepath.Base(argv[0]))
	root.SetArgs(argv[1:])
	root.SetOut(u.out)
	root.SetErr(u.err)
	cmd, err := root.ExecuteContextC(ctx)
	s := a.end(cmd, argv[1:], err)
	a.recordCalls()
	a.telemetry.end(s)
	return s
}

// begin is called before any command: when its arguments have been read, and
// before they are checked.
func (a *app) begin(cmd *cobra.Command) error {
	if err := fromEnvironment(cmd); err != nil {
		return err
	}
	if a.version {
		return ending{out: versionLine()}
	}
	a.ui.voice = voiceOf(cmd)
	a.ui.quiet = a.level == quiet
	a.startTelemetry(cmd)
	return nil
}

// end reports how a command ended.
func (a *app) end(cmd *cobra.Command, args []string, err error) status {
	if err == nil {
		return statusDone
	}
	if usage, ok := asUsageError(cmd, args, err); ok {
		a.ui.message(usage.Error())
		return statusUsage
	}
	e := ending{msg: voiceOf(cmd).errorf("%v", err), status: statusError}
	errors.As(err, &e)
	if e.out != "" {
		if err := a.ui.result(e.out); err != nil {
			a.ui.message(voiceOf(cmd).errorf("%v", err))
			return statusError
		}
	}
	if e.msg != "" {
		a.ui.message(e.msg)
	}
	return e.status
}

// config reads the configuration that the options name.
func (a *app) config() (config.Config, error) {
	return config.Load(a.host, a.configs...)
}

// client returns a client of the server that the options name. It is the only
// place where one is made.
func (a *app) client() (*blueapi.Client, error) {
	c, err := a.config()
	if err != nil {
		return nil, err
	}
	client := &blueapi.Client{
		URL: serverURL(c.URL), Wait: a.wait,
		Trace: retry.JoinTraces(a.ui.observer(a.level).calls(), a.calls.trace()),
	}
	a.observe(client)
	return client, nil
}

// serverURL takes the API's prefix off a URL. blueapi's own client asks paths
// without it, so people have URLs that end in it.
func serverURL(s string) string {
	return strings.TrimSuffix(strings.TrimRight(s, "/"), "/api/v1")
}

// voiceOf tells whose words a command uses.
func voiceOf(cmd *cobra.Command) voice {
	for c := cmd; c != nil; c = c.Parent() {
		if c.Name() == "controller" {
			return asBlueapi
		}
	}
	return asAdamant
}
