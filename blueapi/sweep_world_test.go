package blueapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/stomp"
)

// hit is a fault at one message of a run: at its k-th request, or at the k-th frame that
// passes between its broker and it.
type hit struct {
	fault *sweepFault
	at    int
	frame bool
}

// sweepCase is one run and what befalls it.
type sweepCase struct {
	series *sweepSeries
	hits   []hit
}

func (c sweepCase) String() string {
	var b strings.Builder
	b.WriteString(c.series.name)
	for _, h := range c.hits {
		kind := "request"
		if h.frame {
			kind = "frame"
		}
		fmt.Fprintf(&b, " [%s %d: %s]", kind, h.at, h.fault.name)
	}
	return b.String()
}

func (c sweepCase) has(names ...string) bool {
	for _, h := range c.hits {
		for _, n := range names {
			if strings.Contains(h.fault.name, n) {
				return true
			}
		}
	}
	return false
}

// sweepWorld is a world in which a case is played.
type sweepWorld struct {
	*world
	record     *record
	background sync.WaitGroup // what other people do

	frames atomic.Int64 // of our run
	asked  []string     // our requests: method, and path without its parameter
	// struck says at what the hits were, such as "PUT /worker/task" or "MESSAGE end".
	mu        sync.Mutex
	struck    []string
	published []blueapi.Event // by the server, in order
	lost      map[string]int  // bodies of events that a fault has lost
	server    map[int]bool    // connections of the broker that are the server's
}

// whose tells our requests from those of others.
const whose = "X-Whose"

// played is what came of a case.
type played struct {
	result blueapi.Result
	err    error
	ended  time.Time
	took   time.Duration
	asked  []string
	frames int
	wrong  string
}

// play plays a case, in a bubble.
func (c sweepCase) play(t *testing.T) (p played) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &sweepWorld{
			world: newWorld(t), record: new(record),
			lost: map[string]int{}, server: map[int]bool{},
		}
		w.client.Header = func(_ context.Context, h http.Header) { h.Set(whose, "ours") }
		if c.series.broker {
			w.record = w.follow(w.client)
			w.InjectBroker(w.observe, w.strikeFrames(c.hits))
		}
		w.Inject(w.strikeRequests(c.hits))
		start := time.Now()
		p.result, p.err = w.client.Run(t.Context(), c.series.plan)
		p.ended, p.took = time.Now(), time.Since(start)
		p.asked, p.frames = w.requests(), int(w.frames.Load())
		now := ours(w.world, c.series.plan)
		w.background.Wait()
		time.Sleep(10 * time.Minute) // whatever is late has come
		p.wrong = c.judge(w, p, now, ours(w.world, c.series.plan))
	})
	return p
}

func (w *sweepWorld) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.struck = append(w.struck, what)
}

// hasStruck reports whether a fault was at a message of that kind.
func (w *sweepWorld) hasStruck(what string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.struck {
		if strings.HasPrefix(s, what) {
			return true
		}
	}
	return false
}

// ask notes a request of ours, and returns its number.
func (w *sweepWorld) ask(x *sim.Exchange) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	path := strings.TrimPrefix(x.URL.Path, "/api/v1")
	if sim.Request("*", "/tasks/*")(x) {
		path = "/tasks/T"
	}
	w.asked = append(w.asked, x.Method+" "+path)
	return len(w.asked)
}

func (w *sweepWorld) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

func (w *sweepWorld) strikeRequests(hits []hit) sim.Fault {
	return func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		if x.Header.Get(whose) == "" {
			return next()
		}
		n := w.ask(x)
		for _, h := range hits {
			if !h.frame && h.at == n {
				w.note(x.Method + " " + strings.TrimPrefix(x.URL.Path, "/api/v1") + " " + h.fault.name)
				return h.fault.request(w)(x, next)
			}
		}
		return next()
	}
}

func (w *sweepWorld) strikeFrames(hits []hit) stomp.Fault {
	return func(p *stomp.Passage, next func(*stomp.Frame)) {
		w.mu.Lock()
		others := w.server[p.Conn]
		w.mu.Unlock()
		if others || p.Frame == nil && !p.Sent {
			next(p.Frame)
			return
		}
		n := int(w.frames.Add(1))
		for _, h := range hits {
			if h.frame && h.at == n {
				w.note(frameName(p) + " " + h.fault.name)
				h.fault.frame(w)(p, next)
				return
			}
		}
		next(p.Frame)
	}
}

func frameName(p *stomp.Passage) string {
	if p.Frame == nil {
		return "heart-beat"
	}
	return p.Frame.Command
}

// observe notes what the server publishes, and which connections are its own: only
// the server begins with STOMP instead of CONNECT.
func (w *sweepWorld) observe(p *stomp.Passage, next func(*stomp.Frame)) {
	if f := p.Frame; f != nil && !p.Sent {
		w.mu.Lock()
		switch f.Command {
		case "STOMP":
			w.server[p.Conn] = true
		case "SEND":
			w.published = append(w.published, blueapi.Event{At: time.Now(), TaskID: taskOfEvent(f.Body), Raw: f.Body})
		}
		w.mu.Unlock()
	}
	next(p.Frame)
}

// taskOfEvent is the task that an event is about.
func taskOfEvent(body []byte) string {
	var e struct {
		TaskID string `json:"task_id"`
		Status struct {
			TaskID string `json:"task_id"`
		} `json:"task_status"`
	}
	_ = json.Unmarshal(body, &e)
	if e.TaskID != "" {
		return e.TaskID
	}
	return e.Status.TaskID
}

// clear has somebody delete all tasks.
func (w *sweepWorld) clear() {
	c := w.rival()
	defer c.Close()
	tasks, _ := c.Tasks(context.Background(), "")
	for _, task := range tasks {
		_ = c.DeleteTask(context.Background(), task.ID)
	}
}

// rival is another client.
func (w *sweepWorld) rival() *blueapi.Client {
	return &blueapi.Client{Transport: &http.Transport{DialContext: w.DialContext}}
}

// act has somebody else send a request, and waits for the answer, but not for ever.
func (w *sweepWorld) act(method, path, body string) string {
	c := &http.Client{Transport: &http.Transport{DialContext: w.DialContext}, Timeout: 30 * time.Second}
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(context.Background(), method, blueapi.DefaultURL+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(r)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var answer struct {
		TaskID string `json:"task_id"`
	}
	_ = json.NewDecoder(resp.Body).Decode(&answer)
	return answer.TaskID
}
