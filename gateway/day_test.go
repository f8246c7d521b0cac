package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/gateway"
)

// What befalls a day; the times are means.
const (
	outageEvery = 340 * time.Second // of the server or the way to it and to its broker, for 0.1 to 30 s; one in eight is a restart
	brokerEvery = 15 * time.Minute  // the broker is away for 0.1 to 30 s
	reloadEvery = 25 * time.Minute
	mishapOneIn = 100 // requests

	eventMishapOneIn = 20 // events; they come late, twice or not at all

	endLimit    = 2 * time.Second         // in which the end of a plan is told to who had it run
	longestPace = 1270 * time.Millisecond // after which it is found out that an outage is over, more than that then
	pythonEvery = 3 * time.Minute         // a plan is run by each of those who do so as the Python client does
	loseOneIn   = 4                       // of them lose their connection while they wait, and come back after at most 11 s
	rudeOneIn   = 10                      // do not take leave
	stallEvery  = 2 * time.Minute         // one who does not read for up to 20 minutes comes again
)

// dayKinds are the callers of a day: fifty. Each lives until its shift has ended.
func dayKinds() []struct {
	name  string
	count int
	live  func(*shift, *rand.Rand)
} {
	return []struct {
		name  string
		count int
		live  func(*shift, *rand.Rand)
	}{
		{"poll", 14, (*shift).poll},
		{"run", 5, (*shift).run},
		{"python", 10, (*shift).python},
		{"listen", 2, (*shift).listen},
		{"stall", 2, (*shift).stall},
		{"session", 5, (*shift).session},
		{"control", 4, (*shift).control},
		{"leave", 7, (*shift).leave},
		{"reload", 1, (*shift).reload},
	}
}

// TestDay lets fifty callers of mixed kinds use one gateway for a day, through about 250
// outages of up to half a minute, some of which are restarts, others of the broker, and
// with one request in a hundred and one event in twenty befallen by something else. No plan runs twice, what
// callers are told of a start is true, the end of a plan is told once to each who listens,
// in time to who waits for it, and at the end of the day the gateway is what it was in the
// morning: in goroutines, connections and memory.
func TestDay(t *testing.T) {
	shifts, long := 6, 10*time.Minute
	if everything() {
		shifts, long = 24, time.Hour
	}
	synctest.Test(t, func(t *testing.T) {
		d := &day{T: t, words: map[string]int{}}
		d.gateway = &gateway.Gateway{
			Upstream: "http://blueapi.example", Transport: &http.Transport{DialContext: d.dial}, Aliases: true,
			Broker: &blueapi.Broker{Dial: d.dialBroker},
		}
		defer d.gateway.Close()
		var goroutines, heap []int
		for n := range shifts {
			d.work(uint64(n), long)
			time.Sleep(time.Minute) // there is no server at all
			synctest.Wait()
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			goroutines, heap = append(goroutines, runtime.NumGoroutine()), append(heap, int(m.HeapAlloc)>>10)
		}
		t.Log(d.words)
		t.Logf("%d outages, %d of the broker; %+v", d.outages, d.brokerOutages, d.gateway.Status())
		slices.Sort(d.lags)
		t.Logf("%d ends of %d plans told to those who had them run, median %v, 99%% %v, last %v after they could be", len(d.lags), d.plans,
			d.lags[len(d.lags)/2], d.lags[len(d.lags)*99/100], d.lags[len(d.lags)-1])
		t.Logf("goroutines %v, KiB %v", goroutines, heap)
		early, late := shifts/3, shifts*2/3
		if most := slices.Max(goroutines[:early]); slices.Max(goroutines[late:]) > most {
			t.Errorf("goroutines: %v", goroutines)
		}
		if most := slices.Max(heap[1:early]); slices.Min(heap[late:]) > most+128 {
			t.Errorf("KiB of memory: %v", heap)
		}
	})
}

// day is one gateway, before a simulated server that is another with each shift: the
// simulator remembers all that was asked of it.
type day struct {
	*testing.T
	gateway *gateway.Gateway
	server  atomic.Pointer[world]
	open    atomic.Int64 // connections to the server
	broker  atomic.Int64 // connections to its broker
	words   map[string]int

	outages, brokerOutages, plans int
	lags                          []time.Duration
}

func (d *day) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return d.connect(ctx, network, addr, (*world).DialContext, &d.open)
}

func (d *day) dialBroker(ctx context.Context, network, addr string) (net.Conn, error) {
	return d.connect(ctx, network, addr, (*world).DialBroker, &d.broker)
}

func (d *day) connect(ctx context.Context, network, addr string,
	dial func(w *world, ctx context.Context, network, addr string) (net.Conn, error), open *atomic.Int64,
) (net.Conn, error) {
	w := d.server.Load()
	if w == nil {
		return nil, errors.New("between shifts")
	}
	conn, err := dial(w, ctx, network, addr)
	if err != nil {
		return nil, err
	}
	open.Add(1)
	return &dayConn{Conn: conn, open: open}, nil
}

type dayConn struct {
	net.Conn
	once sync.Once
	open *atomic.Int64
}

func (c *dayConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// shift is a part of a day.
type shift struct {
	*world
	end time.Time

	mu                   sync.Mutex
	words                map[string]int
	said                 map[string]answer // of the start of a task with these parameters
	unclear              map[string]bool   // the caller did not wait for the answer
	tasks                int
	plans                []*plan
	troubles, brokerless []span
	harmed               []*sim.Exchange
}

// work is one shift.
func (d *day) work(seed uint64, long time.Duration) {
	w := &world{T: d.T, gateway: d.gateway}
	w.Network().Latency, w.front.Latency = latency, latency
	w.front.Buffer = 4 << 10 // who does not read is noticed
	defer w.Close()
	d.server.Store(w)
	l, err := w.front.Listen("gateway.example:80")
	if err != nil {
		d.Fatal(err)
	}
	var callers atomic.Int64
	server := &http.Server{Handler: d.gateway, ConnState: func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			callers.Add(1)
		case http.StateClosed, http.StateHijacked:
			callers.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) })
	ears, err := w.front.Listen(stompAddr)
	if err != nil {
		d.Fatal(err)
	}
	served.Go(func() {
		if err := d.gateway.ServeStomp(ears); err != nil {
			d.Errorf("ServeStomp: %v", err)
		}
	})
	w.caller = newCaller(d.T, &w.front, l.Addr().String())

	s := &shift{world: w, end: time.Now().Add(long), words: d.words, said: map[string]answer{}, unclear: map[string]bool{}}
	w.Inject(reloads(d.T, seed), s.mishaps(seed))
	w.InjectBroker(eventMishaps(seed))
	var all sync.WaitGroup
	n := uint64(0)
	for _, kind := range dayKinds() {
		for range kind.count {
			n++
			r := rand.New(rand.NewPCG(seed, n))
			all.Go(func() {
				time.Sleep(time.Duration(r.Int64N(int64(10 * time.Second))))
				kind.live(s, r)
			})
		}
	}
	all.Go(func() { d.outages += s.weather(rand.New(rand.NewPCG(seed, 1000))) })
	all.Go(func() { d.brokerOutages += s.brokerWeather(rand.New(rand.NewPCG(seed, 1001))) })
	all.Wait()
	w.caller.http.CloseIdleConnections()
	time.Sleep(5 * time.Minute) // what was left behind has ended
	s.check(seed)
	d.plans += len(s.plans)
	d.lags = append(d.lags, s.checkEnds(seed)...)
	if g := d.gateway.Status(); g.Callers != 0 || g.Waiting != 0 || len(g.Starting) != 0 || g.Reloading || d.open.Load() != 0 || callers.Load() != 0 ||
		d.broker.Load() != 1 || g.Stomp.Callers != 0 || len(g.Stomp.Following) != 0 || g.Stomp.Cut != 0 {
		d.Errorf("shift %d: %d connections to the server, %d to its broker, %d of callers, %+v", seed, d.open.Load(), d.broker.Load(), callers.Load(), g)
	}
	server.Close()
	ears.Close()
	served.Wait()
	d.server.Store(nil) // what is in memory is the gateway's
}

// mishaps befall one request in mishapOneIn.
func (s *shift) mishaps(seed uint64) sim.Fault {
	r := rand.New(rand.NewPCG(seed, 2000))
	var mu sync.Mutex
	slow := func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		defer s.trouble(&s.troubles, x.Time)
		return sim.Delay(3*time.Second)(x, next)
	}
	kinds := []sim.Fault{
		sim.Status(502), sim.Status(503), sim.Status(504), sim.Instead(sim.Status(502)), sim.LoseAnswer(sim.Reset), sim.LoseRequest(sim.Reset),
		sim.CutAnswer(-3, sim.Close), slow,
	}
	return func(x *sim.Exchange, next func() sim.Answer) sim.Answer {
		mu.Lock()
		n := r.IntN(mishapOneIn * len(kinds))
		mu.Unlock()
		if n < len(kinds) {
			s.mu.Lock()
			s.harmed = append(s.harmed, x)
			s.mu.Unlock()
			return kinds[n](x, next)
		}
		return next()
	}
}

// weather makes outages, and returns how many.
func (s *shift) weather(r *rand.Rand) (n int) {
	for s.pause(r, outageEvery) {
		n++
		long, begun := outageTime(r), time.Now()
		if i := r.IntN(8); i == 7 {
			s.Restart(long)
			time.Sleep(long)
		} else {
			o := outages()[i]
			o.begin(s.world)
			time.Sleep(long)
			o.end(s.world)
		}
		s.trouble(&s.troubles, begun)
	}
	return n
}

// outageTime is from 0.1 to 30 s, and shorter ones are more frequent.
func outageTime(r *rand.Rand) time.Duration {
	return time.Duration(math.Exp(r.Float64()*math.Log(300)) * float64(100*time.Millisecond))
}

// pause lets some time go by, and reports whether the shift goes on.
func (s *shift) pause(r *rand.Rand, mean time.Duration) bool {
	time.Sleep(mean/2 + time.Duration(r.Int64N(int64(mean))))
	return time.Now().Before(s.end)
}

// note counts an answer.
func (s *shift) note(what string, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.err != nil {
		s.words[what+" left"]++
		if !errors.Is(a.err, context.DeadlineExceeded) {
			s.Errorf("%s: %v", what, a.err) // the gateway never drops a connection
		}
		return
	}
	s.words[fmt.Sprint(what, " ", a.status, verdict(a))]++
}

func (s *shift) poll(r *rand.Rand) {
	paths := []string{"/worker/state", "/worker/state", "/api/v1/tasks?task_status=RUNNING", "/worker/task", "/environment", "/plans", "/docs", "/healthz"}
	for s.pause(r, 30*time.Second) {
		s.note("poll", s.caller.get(paths[r.IntN(len(paths))]))
	}
}

// run is what programs do that run a plan: they submit it, start it, and ask until it
// has ended.
func (s *shift) run(r *rand.Rand) {
	for s.pause(r, 3*time.Minute) {
		params, id, a := s.submit(s.Context(), r)
		if id == "" {
			s.note("submit", a)
			continue
		}
		s.note("start", s.start(s.Context(), params, id))
		for range 30 {
			time.Sleep(2 * time.Second)
			a := s.caller.get("/tasks/" + id)
			var t blueapi.Task
			if s.note("watch", a); a.status == http.StatusNotFound || a.status == http.StatusOK && json.Unmarshal([]byte(a.body), &t) == nil && t.IsComplete {
				break
			}
		}
	}
}

// session has plans run by WebSocket.
func (s *shift) session(r *rand.Rand) {
	for s.pause(r, 3*time.Minute) {
		conn, resp, err := s.caller.open()
		if err != nil {
			if resp == nil {
				s.Errorf("session: %v", err)
				continue
			}
			s.note("session", answer{status: resp.StatusCode, header: resp.Header})
			continue
		}
		params, begun := s.params(r), time.Now()
		s.mu.Lock()
		s.unclear[params] = true // it is not always said whether it was started
		s.mu.Unlock()
		say(s.T, conn, `{"kind":"submit","task":`+task("nap", params)+`}`)
		told := rest(conn)
		conn.CloseNow()
		s.mu.Lock()
		s.words[fmt.Sprint("session closed ", int(told.code))]++
		if strings.Contains(strings.Join(told.frames, ""), `"RUNNING"`) {
			s.said[params] = answer{status: http.StatusOK, body: strings.Join(told.frames, "\n"), at: time.Now(), took: time.Since(begun)}
		}
		s.mu.Unlock()
	}
}

// params are those of a plan that nobody else has run.
func (s *shift) params(r *rand.Rand) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks++
	return fmt.Sprintf(`{"seconds":%d.1%05d1}`, r.IntN(6), s.tasks)
}

func (s *shift) submit(ctx context.Context, r *rand.Rand) (params, id string, a answer) {
	params = s.params(r)
	a = s.caller.ask(ctx, "POST", "/tasks", task("nap", params))
	var t struct {
		ID string `json:"task_id"`
	}
	if a.err != nil || a.status != http.StatusCreated || json.Unmarshal([]byte(a.body), &t) != nil {
		return params, "", a
	}
	return params, t.ID, a
}

func (s *shift) start(ctx context.Context, params, id string) answer {
	a := s.caller.ask(ctx, "PUT", "/worker/task", `{"task_id":"`+id+`"}`)
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.err != nil {
		s.unclear[params] = true
	} else {
		s.said[params] = a
	}
	if a.err == nil && a.status == http.StatusOK {
		s.plans = append(s.plans, &plan{id: id, params: params, at: a.at})
	}
	return a
}

// control pauses and resumes what runs, or ends it.
func (s *shift) control(r *rand.Rand) {
	for s.pause(r, 2*time.Minute) {
		switch to := []string{"PAUSED", "STOPPING", "ABORTING"}[r.IntN(3)]; to {
		case "PAUSED":
			s.note("pause", s.caller.state(to))
			time.Sleep(5 * time.Second)
			s.note("resume", s.caller.state("RUNNING"))
		default:
			s.note("stop", s.caller.state(to))
		}
	}
}

// leave is what impatient callers do: they do not wait for answers.
func (s *shift) leave(r *rand.Rand) {
	for s.pause(r, time.Minute) {
		ctx, stop := context.WithTimeout(s.Context(), time.Duration(1+r.IntN(20))*time.Millisecond)
		switch r.IntN(3) {
		case 0:
			s.note("poll", s.caller.ask(ctx, "GET", "/tasks", ""))
		case 1:
			s.note("stop", s.caller.ask(ctx, "PUT", "/worker/state", `{"new_state":"STOPPING"}`))
		case 2:
			if params, id, a := s.submit(s.Context(), r); id != "" {
				s.note("start", s.start(ctx, params, id))
			} else {
				s.note("submit", a)
			}
		}
		stop()
	}
}

func (s *shift) reload(r *rand.Rand) {
	for s.pause(r, reloadEvery) {
		begun := time.Now()
		s.note("reload", s.caller.ask(s.Context(), "DELETE", "/environment", ""))
		for s.gateway.Status().Reloading {
			time.Sleep(100 * time.Millisecond)
		}
		s.trouble(&s.troubles, begun)
	}
}

// check holds what callers were told of their starts against what ran.
func (s *shift) check(seed uint64) {
	ran := map[string]int{}
	for _, run := range s.Runs() {
		ran[string(run.Params)]++
		if n := ran[string(run.Params)]; n > 1 {
			s.Errorf("shift %d: %s ran %d times", seed, run.Params, n)
		}
	}
	for params, a := range s.said {
		least, most := 0, 0
		switch {
		case a.status == http.StatusOK:
			least, most = 1, 1
		case verdict(a) == "unknown":
			most = 1
		}
		if overlaps(s.brokerless, a.at.Add(-a.took), a.at) {
			least = 0 // the server says that it has started what it does not run then
		}
		if n := ran[params]; n < least || n > most {
			s.Errorf("shift %d: of %s was said %v, and it ran %d times", seed, params, a, n)
		}
		delete(ran, params)
	}
	for params := range ran {
		if !s.unclear[params] {
			s.Errorf("shift %d: %s ran, and was not to be started", seed, params)
		}
	}
}
