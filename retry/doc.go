// Package retry does a thing again, but not too often.
//
// Most programs call [Do] with a zero [Policy]: five attempts over at least
// two seconds, so that an outage of one second never surfaces.
//
//	plans, err := retry.Do(ctx, retry.Policy{Gate: gate}, func(ctx context.Context, a retry.Attempt) ([]Plan, error) {
//		return fetch(ctx)
//	})
//
// Callers that share a [Gate] share what they know of their destination: while
// it answers nothing they wait there together, and the destination gets at most
// five sends in any second however many callers there are. When it answers
// again they are let go as fast as answers come.
//
// # What is repeated
//
// The operation says what came of an attempt: nil for success, or an error. A
// [*Failure] carries a [Verdict]; any other error counts as [Ambiguous]: it may
// or may not have taken effect. An operation whose repetition is harmless is
// [Safe] (the zero value); one that must not happen twice is [Once], and is
// repeated only if it was certainly not sent.
//
// # What is not here
//
// The package knows nothing of networks: see retryhttp for what HTTP says about
// retrying. It does not log: see [Trace].
package retry
