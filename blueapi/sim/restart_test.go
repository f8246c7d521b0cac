package sim_test

import (
	"sync"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// TestRestartWhileAccepting: a restart must not wait for a connection that is just
// being accepted, which waits for it.
func TestRestartWhileAccepting(t *testing.T) {
	var s sim.Server
	stop := make(chan struct{})
	var dialling sync.WaitGroup
	for range 2 {
		dialling.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if c, err := s.DialContext(t.Context(), "tcp", ""); err == nil {
					_ = c.Close()
				}
				time.Sleep(20 * time.Microsecond)
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 1000 {
			s.Restart(0)
			time.Sleep(100 * time.Microsecond)
		}
	}()
	select {
	case <-ended:
		close(stop)
		dialling.Wait()
		s.Close()
	case <-time.After(5 * time.Second):
		t.Fatal("hangs") // and cannot be closed either
	}
}
