package sim_test

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/adamant-go/adamant/blueapi/sim"
)

func TestParseFault(t *testing.T) {
	tests := []struct {
		text   string
		first  int // status of the first GET /plans, or 0 with err
		err    error
		second int // and of the second
		after  time.Duration
	}{
		{"lose-request", 0, syscall.ECONNRESET, 0, 0},
		{"lose-request end=close first=1", 0, io.EOF, 200, 0},
		{"lose-answer GET /plans nth=1", 0, syscall.ECONNRESET, 200, 0},
		{"lose-answer end=silence first=1", 0, errTimeout, 200, 10 * time.Second},
		{"cut=60 end=close GET first=1", 0, io.ErrUnexpectedEOF, 200, 0},
		{"cut=60 first=1", 0, syscall.ECONNRESET, 200, 0},
		{"status=503 /plans nth=2", 200, nil, 503, 0},
		{"status=503 PUT /plans", 200, nil, 200, 0},
		{"status=503 * /pl*", 503, nil, 503, 0},
		{"  status=418   nth=1 ", 418, nil, 200, 0},
		{"instead=504 first=1", 504, nil, 200, 0},
		{"delay=2s first=1", 200, nil, 200, 2 * time.Second},
		{"stall=2.5s first=1", 200, nil, 200, 2500 * time.Millisecond},
		{"twice=500ms first=1", 200, nil, 200, 500 * time.Millisecond},
		{"late=2s end=close first=1", 0, io.EOF, 200, 0},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			inLab(t, func(l *lab) {
				f, err := sim.ParseFault(tt.text)
				if err != nil {
					t.Fatal(err)
				}
				l.Inject(f)
				start := time.Now()
				status, _, err := l.askFor(10*time.Second, "GET", "/plans")
				if status != tt.first || !errors.Is(err, tt.err) {
					t.Errorf("first: %d, %v", status, err)
				}
				if d := time.Since(start); d < tt.after || d > tt.after+100*time.Millisecond {
					t.Errorf("after %v", d)
				}
				if status, _, err := l.askFor(10*time.Second, "GET", "/plans"); status != tt.second {
					t.Errorf("second: %d, %v", status, err)
				}
			})
		})
	}
}

func TestParseFaultRefuses(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", `fault "": say what is to be done: lose-request, lose-answer, cut=BYTES`},
		{"loose-answer PUT", `fault "loose-answer PUT": there is no "loose-answer", only lose-request, lose-answer,`},
		{"first=1 delay=2s", `there is no "first", only`},
		{"delay", "delay: say delay=DURATION"},
		{"delay=2", `delay=2: "2" is no duration such as 500ms or 2.5s`},
		{"delay=-2s", `"-2s" is no duration`},
		{"cut=ten", `cut=ten: "ten" is no number from`},
		{"status=99", `status=99: "99" is no number from 200 to 599`},
		{"lose-answer=1", "lose-answer=1: nothing comes after lose-answer"},
		{"status=503 put", `there is no "put" here, only a METHOD in capitals or *, a /PATH, first=K, nth=K and end=END`},
		{"status=503 PUT GET", "GET: PUT is the method already"},
		{"status=503 /a /b", "/b: /a is the path already"},
		{"status=503 /[", "/[ is no pattern"},
		{"status=503 first=0", `first=0: "0" is no number from 1`},
		{"status=503 first=1 nth=2", "nth=2: first= or nth= was said already"},
		{"status=503 end=close", "status has no end="},
		{"cut=10 end=whole", "end=whole: an end is reset, close or silence"},
		{"cut=10 last=1", `there is no "last=1" here`},
	}
	for _, tt := range tests {
		if f, err := sim.ParseFault(tt.text); f != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, expected %s", tt.text, err, tt.want)
		}
	}
}
