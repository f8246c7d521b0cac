package main

import (
	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
)

// rootCommand builds the command tree. The program is named as it was invoked,
// so that alias blueapi=adamant shows in its messages.
func (a *app) rootCommand(name string) *cobra.Command {
	root := &cobra.Command{
		Use:   name + " [OPTIONS] [COMMAND] [ARGS]...",
		Short: "Drive a blueapi server, and keep going through network glitches.",
		Long: `Drive a blueapi server, and keep going through network glitches.

The commands under "controller" take the same options as blueapi's, print the
same and exit with the same status. The others do the same things with exit
statuses that mean something. Each option can be given as a variable of the
environment too: BLUEAPI_HOST, BLUEAPI_CONTROLLER_OUTPUT and so on.`,
		Args: cobra.ArbitraryArgs, // checked by noSuchCommand, in click's words
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return noSuchCommand(cmd, args[0])
			}
			if _, err := a.config(); err != nil {
				return err
			}
			a.ui.note("see '%s --help'", cmd.CommandPath())
			return a.ui.result("Please invoke subcommand!\n")
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.begin(cmd) },
		TraverseChildren:  true, // the options of a group come before its commands
		SilenceErrors:     true,
		SilenceUsage:      true,

		DisableFlagsInUseLine: true,
	}
	root.SetHelpFunc(showHelp)

	root.Flags().BoolVar(&a.version, "version", false, "show the version and exit")
	flags := root.PersistentFlags()
	flags.Bool("help", false, "show this message and exit") // -h is --host
	flags.StringVarP(&a.host, "host", "h", "", "the server's `URL`, such as http://localhost:8000")
	flags.StringArrayVarP(&a.configs, "config", "c", nil, "blueapi's YAML configuration `FILE`; several are merged")
	addToggle(flags, &toggle[level]{target: &a.level, on: verbose, parse: levelOf}, "verbose", "v",
		"show every attempt")
	rename(flags, "verbose", "LOG_LEVEL")
	addToggle(flags, &toggle[level]{target: &a.level, on: quiet}, "quiet", "q", "show errors only")

	for _, group := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Running plans:", []*cobra.Command{
			a.runCommand(), a.attachCommand(), a.watchCommand(), a.waitCommand(), a.resultCommand(), a.lastCommand(), a.historyCommand(),
			a.taskCommand(), a.tasksCommand(), a.clearCommand(),
		}},
		{"The plan that runs:", []*cobra.Command{
			a.stateCommand(), a.controlCommand(blueapi.Pause, asAdamant), a.controlCommand(blueapi.Resume, asAdamant),
			a.controlCommand(blueapi.Abort, asAdamant), a.controlCommand(blueapi.Stop, asAdamant),
		}},
		{"What the server has:", []*cobra.Command{
			a.plansCommand(), a.devicesCommand(), a.envCommand(), a.pythonEnvCommand(), a.listenCommand(),
		}},
		{"For callers that cannot retry:", []*cobra.Command{a.execCommand(), a.gatewayCommand()}},
		{"As blueapi does it:", []*cobra.Command{a.controllerCommand()}},
		{"Without a server:", []*cobra.Command{a.demoCommand(), a.simCommand()}},
	} {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title})
		for _, cmd := range group.commands {
			cmd.GroupID = group.title
			cmd.DisableFlagsInUseLine = true
			root.AddCommand(cmd)
		}
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// controllerCommand is blueapi's group of client commands.
func (a *app) controllerCommand() *cobra.Command {
	f := compact // the default
	controller := &cobra.Command{
		Use:   "controller [OPTIONS] COMMAND [ARGS]...",
		Short: "What blueapi's own client does, with the same output",
		Args:  cobra.ArbitraryArgs, // as for the root
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return noSuchCommand(cmd, args[0])
			}
			return ending{msg: helpText(cmd), status: statusUsage}
		},
	}
	addFormat(controller.PersistentFlags(), &f)
	for _, cmd := range []*cobra.Command{
		a.controllerPlans(&f), a.controllerDevices(&f), a.controllerState(), a.controllerRun(),
		a.controlCommand(blueapi.Pause, asBlueapi), a.controlCommand(blueapi.Resume, asBlueapi),
		a.controlCommand(blueapi.Abort, asBlueapi), a.controlCommand(blueapi.Stop, asBlueapi),
		a.controllerEnv(), a.controllerPythonEnv(&f), a.controllerListen(&f),
	} {
		cmd.DisableFlagsInUseLine = true
		controller.AddCommand(cmd)
	}
	return controller
}
