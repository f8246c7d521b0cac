package main

import "runtime/debug"

// versionLine is what --version prints.
func versionLine() string {
	version := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	return "adamant, version " + version + "\n"
}
