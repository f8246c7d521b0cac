package retry

import "time"

// Backoff is a schedule of delays. It is a value that any number of goroutines
// may share. The zero value is the schedule of the package: 250 ms x 1.5 up to
// 843.75 ms, each lengthened by 0 to 50 %.
//
// Jitter only lengthens: with jitter that may shorten a delay, the smallest
// possible window is zero, and no outage is survived with certainty.
type Backoff struct {
	// First is the delay after the first attempt; zero means 250 ms.
	First time.Duration
	// Factor multiplies each delay to give the next; zero means 1.5.
	Factor float64
	// Max is the longest delay before jitter; zero means 843.75 ms.
	Max time.Duration
	// Jitter is the largest part of a delay that is added to it; zero means
	// 0.5, negative means none.
	Jitter float64
}

func (b Backoff) withDefaults() Backoff {
	if b.First == 0 {
		b.First = 250 * time.Millisecond
	}
	if b.Factor == 0 {
		b.Factor = 1.5
	}
	if b.Max == 0 {
		b.Max = 843750 * time.Microsecond
	}
	if b.Jitter == 0 {
		b.Jitter = 0.5
	}
	b.Jitter = max(b.Jitter, 0)
	return b
}

// Delay returns the k-th delay, counted from 0, for a random number u in [0, 1).
func (b Backoff) Delay(k int, u float64) time.Duration {
	b = b.withDefaults()
	d := float64(b.First)
	for range k {
		if d *= b.Factor; d >= float64(b.Max) {
			break
		}
	}
	d = min(d, float64(b.Max))
	return time.Duration(d * (1 + b.Jitter*u))
}

// Window returns the shortest and the longest time from the first attempt to
// the start of the last of n, apart from the time that the attempts take. An
// outage no longer than the shortest cannot make a call fail, as long as every
// attempt fails at once.
func (b Backoff) Window(n int) (shortest, longest time.Duration) {
	for k := range n - 1 {
		shortest += b.Delay(k, 0)
		longest += b.Delay(k, 1)
	}
	return shortest, longest
}
