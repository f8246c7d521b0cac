// Package otelretry turns what a [retry.Trace] tells of calls and attempts into
// OpenTelemetry spans and metrics, and slog records.
//
// One [Observer] goes with one destination:
//
//	o := otelretry.Observer{Traces: tracerProvider, Metrics: meterProvider, Gate: new(retry.Gate)}
//	trace, err := o.Trace()
//	...
//	client := &blueapi.Client{URL: url, Gate: o.Gate, Trace: trace, Header: otelretry.Header}
//
// For other HTTP services the trace goes into the policy of a retryhttp.Transport
// (see the example), and for anything else into that of retry.Do. An observer of
// one's own stays beside it with [retry.JoinTraces]. The providers are made, and
// shut down, by the program; nothing here uses those that are global.
//
// # Spans
//
// A call is an INTERNAL span with the name of its operation, a child of the span
// in the context that it was made with. Its events are the waits. Its status is an
// error only if the call failed.
//
// Each attempt, copies included, is a CLIENT span below that of its call, and is in
// the context that the operation is given: spans that are made there hang below the
// attempt, and [Header] sends it to the server. Where the operation is named as
// those of HTTP are, such as "GET /plans/{name}", its method and template are
// attributes; what package retryhttp sends and is answered tells the others, and
// takes the span to the server without Header.
//
// # Metrics
//
//	adamant.calls            calls by outcome: ok, ok_after_resend, failed_after_resend, failed_at_once
//	adamant.attempts         attempts by verdict and error.type
//	adamant.call.attempts    attempts per call
//	adamant.call.duration    seconds per call
//	adamant.call.wait        seconds waited, of the calls that waited
//	adamant.gate.state       1 for the state that the gate is in, up or outage; 0 for the other
//	adamant.gate.waiters     calls that wait at the gate
//
// All but those of the gate are by operation. Calls that failed at once tell
// nothing of retrying; ok_after_resend are the calls saved.
//
// # Records
//
// A resend that is going to be made is a record of level INFO with its cause and
// delay, and so is the end of a call that was answered after one; the end of one
// that failed after several attempts is a WARN. No attempt is ever an ERROR. Times
// are in seconds.
package otelretry
