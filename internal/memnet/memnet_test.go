package memnet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/internal/memnet"
)

const addr = "blueapi.example:8000"

// connect listens on addr if nobody does, and returns both ends of a connection.
func connect(t *testing.T, n *memnet.Network) (client, server *memnet.Conn) {
	t.Helper()
	l, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close(); l.Close() })
	return c.(*memnet.Conn), s.(*memnet.Conn)
}

// read reads once, giving up after a second.
func read(c net.Conn) (string, error) {
	b := make([]byte, 100)
	c.SetReadDeadline(time.Now().Add(time.Second))
	n, err := c.Read(b)
	return string(b[:n]), err
}

func wantRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	if got, err := read(c); got != want || err != nil {
		t.Errorf("read %q, %v; want %q", got, err, want)
	}
}

func wantReadErr(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if got, err := read(c); !errors.Is(err, want) {
		t.Errorf("read %q, %v; want %v", got, err, want)
	}
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{Latency: 20 * time.Millisecond}
		start := time.Now()
		c, s := connect(t, n)
		if d := time.Since(start); d != 40*time.Millisecond {
			t.Errorf("the dial took %v", d)
		}
		c.Write([]byte("ping"))
		wantRead(t, s, "ping")
		s.Write([]byte("pong"))
		s.Close()
		wantRead(t, c, "pong")
		wantReadErr(t, c, io.EOF)
		if d := time.Since(start); d != 80*time.Millisecond {
			t.Errorf("the whole took %v", d)
		}
		c.Write([]byte("too late"))
		time.Sleep(40 * time.Millisecond)
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a closed peer: %v", err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := connect(t, &memnet.Network{Buffer: 4})
		start := time.Now()
		_, err := read(c)
		ne, ok := err.(net.Error)
		if !ok || !ne.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
		c.SetWriteDeadline(time.Now().Add(time.Second))
		if k, err := c.Write([]byte("123456")); k != 4 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write into a full buffer: %d, %v", k, err)
		}
		wantRead(t, s, "1234")
		// A deadline moved into the past ends a wait that is under way.
		c.SetDeadline(time.Time{})
		time.AfterFunc(time.Minute, func() { c.SetReadDeadline(time.Unix(1, 0)) })
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		time.AfterFunc(time.Minute, func() { c.Close() })
		c.SetReadDeadline(time.Time{})
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v", err)
		}
	})
}

func TestRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		if _, err := n.DialContext(t.Context(), "tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
		c, s := connect(t, n)
		n.Set(memnet.Refuse)
		_, err := n.DialContext(t.Context(), "tcp", addr)
		op, ok := err.(*net.OpError)
		if !ok || op.Op != "dial" || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refused: %v", err)
		}
		c.Write([]byte("still here"))
		wantRead(t, s, "still here")
		n.Set(memnet.Kill)
		wantReadErr(t, c, syscall.ECONNRESET)
		wantReadErr(t, s, syscall.ECONNRESET)
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write: %v", err)
		}
		n.Set(memnet.Healthy)
		if _, err := n.DialContext(t.Context(), "tcp", addr); err != nil {
			t.Errorf("healthy: %v", err)
		}
		if d := n.Dials(); len(d) != 4 || d[1].Err != nil || d[2].Err == nil {
			t.Errorf("log: %v", d)
		}
	})
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		c, s := connect(t, n)
		c.Write([]byte("arrived"))
		n.SetAt(addr, memnet.Reset)
		wantRead(t, s, "arrived")
		wantReadErr(t, s, syscall.ECONNRESET)
		d, err := n.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		d.Write([]byte("first byte"))
		wantReadErr(t, d, syscall.ECONNRESET)
	})
}

func TestBlackHole(t *testing.T) {
	for _, f := range []memnet.Fault{memnet.BlackHole, memnet.Forget} {
		t.Run(f.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &memnet.Network{}
				c, s := connect(t, n)
				c.Write([]byte("before,"))
				n.Set(f)
				c.Write([]byte("during,"))
				wantRead(t, s, "before,")
				wantReadErr(t, s, os.ErrDeadlineExceeded)
				start := time.Now()
				time.AfterFunc(1500*time.Millisecond, func() { n.Set(memnet.Healthy) })
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				d, err := n.DialContext(ctx, "tcp", addr)
				if f == memnet.Forget {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("dial: %v", err)
					}
					wantReadErr(t, s, os.ErrDeadlineExceeded)
					c.Close()
					wantReadErr(t, s, os.ErrDeadlineExceeded)
					d, err = n.DialContext(t.Context(), "tcp", addr)
				} else {
					if took := time.Since(start); took != 3*time.Second {
						t.Errorf("the dial took %v, want the second SYN resend", took)
					}
					c.Write([]byte("after"))
					wantRead(t, s, "during,after")
				}
				if err != nil {
					t.Fatal(err)
				}
				d.Close()
			})
		})
	}
}

func TestDialGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		n.Set(memnet.BlackHole)
		start := time.Now()
		_, err := n.DialContext(t.Context(), "tcp", addr)
		if !errors.Is(err, syscall.ETIMEDOUT) || time.Since(start) != 127*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestResetDuringBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		c, _ := connect(t, n)
		n.Set(memnet.BlackHole)
		n.ResetConns(addr)
		wantReadErr(t, c, os.ErrDeadlineExceeded)
		n.Set(memnet.Healthy)
		wantReadErr(t, c, syscall.ECONNRESET)
	})
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		l, _ := n.Listen(addr)
		defer l.Close()
		n.Set(memnet.Stall)
		c, err := n.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("hello"))
		start := time.Now()
		time.AfterFunc(time.Minute, func() { n.Set(memnet.Healthy) })
		s, err := l.Accept()
		if err != nil || time.Since(start) != time.Minute {
			t.Fatalf("accept: %v after %v", err, time.Since(start))
		}
		wantRead(t, s, "hello")
		n.Set(memnet.Stall)
		s.Write([]byte("held"))
		wantReadErr(t, c, os.ErrDeadlineExceeded)
		n.Set(memnet.Healthy)
		wantRead(t, c, "held")
		l.Close()
		s.Close()
		c.Close()
	})
}

func TestCutAfter(t *testing.T) {
	tests := []struct {
		end, client error
	}{
		{io.EOF, io.EOF},
		{syscall.ECONNRESET, syscall.ECONNRESET},
		{nil, os.ErrDeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.end), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := connect(t, &memnet.Network{Latency: time.Millisecond})
				s.CutAfter(5, tt.end)
				for _, w := range []string{"abc", "defg", "hij"} {
					if _, err := s.Write([]byte(w)); err != nil {
						t.Error(err)
					}
				}
				b := make([]byte, 10)
				c.SetReadDeadline(time.Now().Add(time.Second))
				k, err := io.ReadFull(c, b)
				if string(b[:k]) != "abcde" || tt.client == io.EOF && err != io.ErrUnexpectedEOF || tt.client != io.EOF && !errors.Is(err, tt.client) {
					t.Errorf("read %q, %v", b[:k], err)
				}
				s.Close()
				wantReadErr(t, c, tt.client)
			})
		})
	}
}

func TestCloseWithUnreadBytesResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := connect(t, &memnet.Network{})
		c.Write([]byte("never read"))
		s.Write([]byte("last words"))
		s.Close()
		wantRead(t, c, "last words")
		wantReadErr(t, c, syscall.ECONNRESET)
	})
}

func TestListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &memnet.Network{}
		l, _ := n.Listen("h:0")
		if _, err := n.Listen(l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second listener: %v", err)
		}
		c, err := n.DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, func() { l.Close() })
		s, _ := l.Accept()
		defer s.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
		c.Write([]byte("x")) // a closed listener leaves what it accepted alone
		wantRead(t, s, "x")
		c.Close()
		if l, err = n.Listen(l.Addr().String()); err != nil {
			t.Error(err)
		}
		l.Close()
	})
}

func TestBusiest(t *testing.T) {
	at := func(ms ...int) (ts []time.Time) {
		for _, m := range ms {
			ts = append(ts, time.UnixMilli(int64(m)))
		}
		return ts
	}
	for _, tt := range []struct {
		times []time.Time
		want  int
	}{{nil, 0}, {at(5), 1}, {at(0, 1000, 2000), 1}, {at(2000, 0, 999, 1000, 1001), 3}} {
		if got := memnet.Busiest(tt.times, time.Second); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.times, got, tt.want)
		}
	}
}

// TestHTTPThroughAnOutage sends requests across an hour of every
// fault: all before and after succeed, none during it.
func TestHTTPThroughAnOutage(t *testing.T) {
	for f := memnet.Refuse; f <= memnet.Stall; f++ {
		t.Run(f.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &memnet.Network{Latency: 3 * time.Millisecond}
				l, err := n.Listen(addr)
				if err != nil {
					t.Fatal(err)
				}
				hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.Copy(w, r.Body)
				})}
				served := make(chan error)
				go func() { served <- hs.Serve(l) }()
				tr := &http.Transport{DialContext: n.DialContext}
				hc := &http.Client{Transport: tr, Timeout: 400 * time.Millisecond}

				start := time.Now()
				const begin, end = 10500 * time.Millisecond, 10500*time.Millisecond + time.Hour
				time.AfterFunc(begin, func() { n.Set(f) })
				time.AfterFunc(end, func() { n.Set(memnet.Healthy) })
				tick := time.NewTicker(3 * time.Second)
				defer tick.Stop()
				for since := time.Duration(0); since < end+10*time.Second; since = time.Since(start) {
					// Refuse leaves the pooled connection alone.
					hc.CloseIdleConnections()
					resp, err := hc.Post("http://"+addr, "", strings.NewReader("body"))
					if err == nil {
						var b []byte
						b, err = io.ReadAll(resp.Body)
						resp.Body.Close()
						if string(b) != "body" {
							t.Errorf("at %v: body %q", since, b)
						}
					}
					if down := since > begin && since < end; (err != nil) != down {
						t.Errorf("at %v: %v", since, err)
					}
					<-tick.C
				}
				if d := n.Dials(); len(d) < 1200 {
					t.Errorf("%d dials", len(d))
				}
				tr.CloseIdleConnections()
				hs.Close()
				if err := <-served; err != http.ErrServerClosed {
					t.Error(err)
				}
			})
		})
	}
}
