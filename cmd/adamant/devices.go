package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/adamant-go/adamant/blueapi"
)

func (a *app) devicesCommand() *cobra.Command {
	f := compact
	cmd := &cobra.Command{
		Use:   "devices [OPTIONS] [NAME]",
		Short: "List the devices that plans can use, or show one",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := oneAtMost(cmd, args, "NAME")
			switch {
			case err != nil:
				return err
			case name == "":
				return a.listDevices(cmd.Context(), f)
			}
			return a.showDevice(cmd.Context(), name, f)
		},
	}
	a.addOwn(cmd.Flags(), &f)
	return cmd
}

func (a *app) controllerDevices(f *format) *cobra.Command {
	return &cobra.Command{
		Use:   "devices [OPTIONS]",
		Short: "List the devices that plans can use",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atMost(cmd, args, 0); err != nil {
				return err
			}
			return a.listDevices(cmd.Context(), *f)
		},
	}
}

func (a *app) listDevices(ctx context.Context, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	devices, err := c.Devices(ctx)
	if err != nil {
		return a.failed(ctx, c, "", err)
	}
	return a.ui.result(f.devices(devices))
}

func (a *app) showDevice(ctx context.Context, name string, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	device, err := c.Device(ctx, name)
	if err != nil {
		return a.failed(ctx, c, "device "+name, err)
	}
	if f == jsonText {
		return a.ui.result(dumps(withExtra(deviceDict(device), device.Extra), 0) + "\n")
	}
	return a.ui.result(f.devices([]blueapi.Device{device}))
}
