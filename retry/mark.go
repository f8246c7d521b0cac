package retry

import "context"

// markKey finds the nearest attempt that a context was made for.
type markKey struct{}

// mark names the gate that an attempt was let through.
type mark struct {
	gate  *Gate
	outer *mark
}

func markOf(ctx context.Context) *mark {
	m, _ := ctx.Value(markKey{}).(*mark)
	return m
}

// through reports whether a call of ctx is made inside an attempt that g let go.
func (m *mark) through(g *Gate) bool {
	for ; m != nil; m = m.outer {
		if m.gate == g {
			return true
		}
	}
	return false
}

// Nested reports whether ctx belongs to an attempt of some call. A call made
// with such a context waits, and repeats what was not sent; it leaves the
// repetition of what was sent to the outer call.
func Nested(ctx context.Context) bool { return markOf(ctx) != nil }

// Detach returns a context that is no longer part of the attempt that ctx was
// made for, for goroutines that go their own way.
func Detach(ctx context.Context) context.Context {
	return context.WithValue(ctx, markKey{}, (*mark)(nil))
}

// Within marks ctx as part of an attempt of a layer outside this process, which
// retries itself: one that announced itself by a header, for instance.
func Within(ctx context.Context) context.Context {
	return context.WithValue(ctx, markKey{}, &mark{outer: markOf(ctx)})
}
