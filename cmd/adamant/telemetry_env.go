package main

import (
	"fmt"
	"net/url"
	"os"
	"strings"
)

// signals are the kinds of telemetry that the environment asks to have exported.
type signals struct{ traces, metrics, logs bool }

func (s signals) any() bool { return s.traces || s.metrics || s.logs }

// wantedSignals reads the variables of OpenTelemetry (SDK environment variables,
// OTLP exporter), and blueapi's OTLP_EXPORT_ENABLED, which is heeded if it is
// "true" and is about traces only, as there. Nothing is exported unless one of
// them says so. warn is told of what was asked for and cannot be done.
func wantedSignals(warn func(format string, args ...any)) signals {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return signals{}
	}
	return signals{
		traces:  wanted("TRACES", os.Getenv("OTLP_EXPORT_ENABLED") == "true", warn),
		metrics: wanted("METRICS", false, warn),
		logs:    wanted("LOGS", false, warn),
	}
}

// wanted reports whether a signal is to be exported. usual is what holds if no
// variable of OpenTelemetry is set.
func wanted(signal string, usual bool, warn func(format string, args ...any)) bool {
	endpointName, endpoint := ofSignal(signal, "ENDPOINT")
	exporterName := "OTEL_" + signal + "_EXPORTER"
	switch exporter := os.Getenv(exporterName); exporter {
	case "otlp":
	case "none":
		return false
	case "":
		if endpoint == "" && !usual {
			return false
		}
	default:
		warn("%s=%s: otlp and none are known; %s are not exported", exporterName, exporter, strings.ToLower(signal))
		return false
	}
	if name, protocol := ofSignal(signal, "PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		warn("%s=%s: http/protobuf is known; %s are not exported", name, protocol, strings.ToLower(signal))
		return false
	}
	if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		warn("%s: not a URL such as http://localhost:4318; %s are not exported", endpointName, strings.ToLower(signal))
		return false
	}
	return true
}

// ofSignal returns the variable of the OTLP exporter for a signal, or the one for
// all of them, and its name. One that is empty counts as unset.
func ofSignal(signal, what string) (name, value string) {
	for _, name := range []string{fmt.Sprintf("OTEL_EXPORTER_OTLP_%s_%s", signal, what), "OTEL_EXPORTER_OTLP_" + what} {
		if value := os.Getenv(name); value != "" {
			return name, value
		}
	}
	return "", ""
}
