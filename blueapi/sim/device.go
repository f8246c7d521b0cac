package sim

import (
	"slices"
	"strings"

	"github.com/adamant-go/adamant/blueapi"
)

// demoDevices are the devices of blueapi's tutorial. The name by which a part is
// asked for is not the name that it has.
func demoDevices() map[string]blueapi.Device {
	device := func(name string, protocols ...string) blueapi.Device {
		d := blueapi.Device{Name: name}
		for _, p := range protocols {
			d.Protocols = append(d.Protocols, blueapi.Protocol{Name: p, Types: []string{}})
		}
		return d
	}
	motor := []string{"Checkable", "Flyable", "Movable", "Readable", "Stageable", "Stoppable", "Subscribable", "Configurable", "Device"}
	return map[string]blueapi.Device{
		"stage":   device("stage", "Readable", "Stageable", "Configurable", "Device"),
		"stage.x": device("stage-x", motor...),
		"stage.y": device("stage-y", motor...),
		"det":     device("det", "Flyable", "Readable", "Stageable", "WritesExternalAssets", "Configurable", "Triggerable", "Device"),
	}
}

// deviceOf is the name of a device that has a protocol, such as
// bluesky.protocols.Movable[float].
func deviceOf(protocol string) shape {
	word := protocol[strings.LastIndexByte(protocol, '.')+1:]
	word, _, _ = strings.Cut(word, "[")
	return shape{"function-after[valid(), str]", func(v value) []invalid {
		if v.kind != text {
			return []invalid{{msg: "Input should be a valid string", kind: "string_type", input: v}}
		}
		d, found := demoDevices()[v.text]
		switch {
		case !found:
			return []invalid{{msg: "Value error, Device " + v.text + " cannot be found", kind: "value_error", input: v}}
		case !slices.ContainsFunc(d.Protocols, func(p blueapi.Protocol) bool { return p.Name == word }):
			return []invalid{{
				msg:  "Value error, Device " + d.Name + " (" + deviceClass(v.text) + ") is not of type " + protocol,
				kind: "value_error", input: v,
			}}
		}
		return nil
	}}
}

func deviceClass(name string) string {
	switch name {
	case "stage":
		return "ophyd_async.sim._stage.SimStage"
	case "det":
		return "ophyd_async.sim._blob_detector.SimBlobDetector"
	}
	return "ophyd_async.sim._motor.SimMotor"
}
