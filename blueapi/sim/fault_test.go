package sim_test

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

// errTimeout stands for whatever net/http says of a client's own time-out.
var errTimeout = context.DeadlineExceeded

func TestFaults(t *testing.T) {
	put := sim.Request("PUT", "/worker/task")
	tests := []struct {
		name   string
		fault  sim.Fault
		status int
		err    error
		runs   int // of a task that was PUT once
	}{
		{"lose request, reset", sim.LoseRequest(sim.Reset), 0, syscall.ECONNRESET, 0},
		{"lose request, close", sim.LoseRequest(sim.Close), 0, io.EOF, 0},
		{"lose request, silence", sim.LoseRequest(sim.Silence), 0, errTimeout, 0},
		{"lose answer, reset", sim.LoseAnswer(sim.Reset), 0, syscall.ECONNRESET, 1},
		{"lose answer, close", sim.LoseAnswer(sim.Close), 0, io.EOF, 1},
		{"lose answer, silence", sim.LoseAnswer(sim.Silence), 0, errTimeout, 1},
		{"cut the head", sim.CutAnswer(len("HTTP/1.1 200 OK\r\n"), sim.Close), 0, io.ErrUnexpectedEOF, 1},
		{"cut the last byte", sim.CutAnswer(-1, sim.Close), 200, io.ErrUnexpectedEOF, 1},
		{"cut the body by reset", sim.CutAnswer(-10, sim.Reset), 200, syscall.ECONNRESET, 1},
		{"cut the body in silence", sim.CutAnswer(-10, sim.Silence), 200, errTimeout, 1},
		{"cut after the end", sim.CutAnswer(1<<20, sim.Reset), 200, nil, 1},
		{"status", sim.Status(502), 502, nil, 0},
		{"instead", sim.Instead(sim.Status(504)), 504, nil, 1},
		{"delay", sim.Delay(9 * time.Second), 200, nil, 1},
		{"delay beyond the client", sim.Delay(11 * time.Second), 0, errTimeout, 1},
		{"late", sim.Late(11*time.Second, sim.Reset), 0, syscall.ECONNRESET, 1},
		{"twice", sim.Twice(0), 200, nil, 1},
		{"twice, the second late", sim.Twice(20 * time.Millisecond), 409, nil, 1},
		{"stall", sim.Stall(9 * time.Second), 200, nil, 1},
		{"stall beyond the client", sim.Stall(11 * time.Second), 0, errTimeout, 1},
		{"another request", sim.When(sim.Request("GET", "/tasks/*"), sim.Status(502)), 200, nil, 1},
		{"the second", sim.Nth(2, sim.Status(502)), 200, nil, 1},
		{"the first", sim.First(1, sim.Status(502)), 502, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				id := l.submit("nap", `{"seconds":5}`)
				l.Inject(sim.When(put, tt.fault))
				ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
				defer cancel()
				status, _, err := l.ask(ctx, "PUT", "/api/v1/worker/task", `{"task_id":"`+id+`"}`)
				twice := tt.name == "twice" && status == 500 // either copy may be the one that is told so
				if status != tt.status && !twice || !errors.Is(err, tt.err) {
					t.Errorf("%d, %v; want %d, %v", status, err, tt.status, tt.err)
				}
				time.Sleep(20 * time.Second)
				if n := l.ran(id); n != tt.runs {
					t.Errorf("%d runs, want %d", n, tt.runs)
				}
				l.Heal()
				if task := l.task(id); task.IsComplete != (tt.runs > 0) {
					t.Errorf("%+v", task)
				}
			})
		})
	}
}
