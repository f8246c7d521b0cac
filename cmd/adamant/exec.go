package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// The exit statuses of a command that was not run, as shells have them.
const (
	statusNotExecutable status = 126
	statusNoSuchCommand status = 127
)

func (a *app) execCommand() *cobra.Command {
	var report string
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] -- CMD [ARGS]...",
		Short: "Run a command that asks the server through a gateway of its own",
		Long: `Run a command that asks the server through a gateway of its own.

For callers of blueapi that cannot retry: Python's client and its scripts, raw
HTTP, blueapi's own command line. Nothing in them changes. A gateway is started
for the command on free ports of this machine, started again if it dies, and
ended with the command. See 'adamant gateway'.

The command is pointed at it by BLUEAPI_HOST, and by copies of blueapi's
configuration files in the place of those that its arguments (-c, --config) or
BLUEAPI_CONFIG name. The option -h URL of blueapi and adamant is replaced too.
A command that has its server's address from elsewhere is not protected.

The server is the one of adamant's own -h or -c, or else that of the command's
files. One exec is in front of one server.

The command gets the terminal, and the signals that exec gets; exec ends with
its exit status, 128+N after signal N, 127 if there is no such command. At the
end one line says what happened, if anything did. A command that goes on in the
background outlives its gateway.`,
		Example: `Examples:
  adamant exec -- python collect.py -c client.yaml
  adamant exec --report night.json -- blueapi -c client.yaml controller run count '{"detectors": ["det"]}' -i cm12345-1
  adamant -h http://i22-blueapi exec --wait 10m -- ./collect.sh
`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{cmd, "Missing argument 'CMD'."}
			}
			if !canExec {
				return errors.New("exec is not to be had on this system; 'adamant gateway' is")
			}
			return a.exec(cmd, args, report)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows CMD is its own
	flags.StringVar(&report, "report", "", "write what happened to `FILE`, as JSON")
	flags.Var((*duration)(&a.wait), "wait", "how long the command's requests wait for a server that is away")
	return cmd
}

// exec runs a command behind a gateway. Its end is that of the command: the context
// ends at a signal, which is passed on.
func (a *app) exec(cmd *cobra.Command, argv []string, report string) error {
	signals := catchSignals()
	defer signals.stop()
	_, giveBack := a.ui.interrupts.take() // they are the command's
	defer giveBack()
	ctx := context.WithoutCancel(cmd.Context())
	program, err := exec.LookPath(argv[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return endOfNoCommand(argv[0], err)
	}
	if report != "" {
		if info, err := os.Stat(filepath.Dir(report)); err != nil || !info.IsDir() {
			return usageError{cmd, fmt.Sprintf("Invalid value for '--report': there is no folder %s.", filepath.Dir(report))}
		}
	}
	p := readPointing(argv)
	c, err := p.server(a, cmd)
	if err != nil {
		return err
	}
	dir, err := makePrivateDir()
	if err != nil {
		return err
	}
	defer dir.remove()
	g, err := openGateway(ctx, dir.path, c, a.wait)
	if err != nil {
		return fmt.Errorf("the gateway cannot be started, and the command was not run: %w", err)
	}
	g.verbose, g.log, g.say = a.level == verbose, stderr{a.ui}, a.ui.note
	g.tally = newExecTally(a.ui.notifier())
	g.tally.report.Command, g.tally.report.Upstream = argv[0], redacted(serverURL(c.URL))
	env := []string(nil)
	if argv, env, err = p.point(dir.path, g.url, g.broker); err != nil {
		g.close()
		return err
	}
	if err := g.start(); err != nil {
		g.end()
		return fmt.Errorf("the gateway cannot be started, and the command was not run: %w", err)
	}
	g.tally.report.Began = time.Now()
	ended, err := runCommandLine(program, argv, env, signals)
	ended.now = time.Now()
	g.end()
	if err != nil {
		return endOfNoCommand(argv[0], err)
	}
	return a.endOfExec(g, ended, report)
}

// commandEnd is how a command ended.
type commandEnd struct {
	now    time.Time
	status status
	signal string // that ended it
}

// runCommandLine runs a command with this process's own input and output, and passes
// signals on to it. One that has come already keeps it from being run.
func runCommandLine(program string, argv, env []string, signals signalCatcher) (commandEnd, error) {
	if end, came := signals.early(); came {
		return end, nil
	}
	// It is ended by what it is sent, and by itself: there is no context.
	child := &exec.Cmd{Path: program, Args: argv, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := child.Start(); err != nil {
		return commandEnd{}, err
	}
	passed := signals.passOn(child.Process)
	err := child.Wait()
	passed()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return commandEnd{}, err
	}
	return endOfProcess(child.ProcessState), nil
}

// endOfExec says what the gateway did, and ends as the command did.
func (a *app) endOfExec(g *ownGateway, ended commandEnd, path string) error {
	r := g.tally.end(ended.now)
	r.ExitStatus, r.Signal = int(ended.status), ended.signal
	for _, line := range r.lines() {
		a.ui.note("%s", line)
	}
	if r.Requests == 0 && r.Restarts == 0 && ended.signal == "" {
		a.ui.note("the command asked nothing through the gateway: its server's address must come from -c, BLUEAPI_CONFIG or BLUEAPI_HOST")
	}
	e := ending{status: ended.status}
	if path != "" {
		if err := r.write(path); err != nil {
			e.msg = asAdamant.errorf("the report was not written: %v", err)
			if e.status == statusDone {
				e.status = statusError
			}
		}
	}
	return e
}

// endOfNoCommand is the end of a command that could not be run, as shells word it.
func endOfNoCommand(name string, err error) ending {
	e := ending{msg: asAdamant.errorf("%s: %v", name, errors.Unwrap(err)), status: statusNotExecutable}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		e.status, e.msg = statusNoSuchCommand, asAdamant.errorf("%s: command not found", name)
	}
	return e
}
