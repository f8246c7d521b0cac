package gateway_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/internal/stomp"
)

// plan is one that was said to be started.
type plan struct {
	id, params string
	at         time.Time // when that was said
	came       time.Time // when the one who listens to it was last connected
	told       time.Time // its end, to the one who had it run and listened; zero otherwise
	end        heard
}

// span is some time of a day.
type span struct{ from, to time.Time }

func overlaps(spans []span, from, to time.Time) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return !to.Before(s.from) && !from.After(s.to) })
}

// trouble notes that something was away from begun until now.
func (s *shift) trouble(of *[]span, begun time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*of = append(*of, span{begun, time.Now()})
}

// brokerWeather has the broker be away now and then, and returns how often.
func (s *shift) brokerWeather(r *rand.Rand) (n int) {
	for s.pause(r, brokerEvery) {
		n++
		begun := time.Now()
		s.StopBroker()
		time.Sleep(outageTime(r))
		s.StartBroker()
		time.Sleep(11 * time.Second) // until the server has found it
		s.trouble(&s.brokerless, begun)
	}
	return n
}

// eventMishaps befall one event in eventMishapOneIn on its way from the broker.
func eventMishaps(seed uint64) stomp.Fault {
	r := rand.New(rand.NewPCG(seed, 2001))
	var mu sync.Mutex
	kinds := []stomp.Fault{stomp.Drop, stomp.Twice, stomp.Delay(700 * time.Millisecond), stomp.Delay(5 * time.Second), stomp.Cut(20)}
	return stomp.When(stomp.Sends("MESSAGE"), func(p *stomp.Passage, next func(*stomp.Frame)) {
		mu.Lock()
		n := r.IntN(eventMishapOneIn * len(kinds))
		mu.Unlock()
		if n < len(kinds) {
			kinds[n](p, next)
			return
		}
		next(p.Frame)
	})
}

// python has plans run as the Python client does: it subscribes without waiting for a
// receipt, and goes by the end event.
func (s *shift) python(r *rand.Rand) {
	for s.pause(r, pythonEvery) {
		e := connectEar(s.world)
		e.send(subscribe)
		loses := r.IntN(loseOneIn) == 0
		if loses && r.IntN(2) == 0 {
			close(e.done) // what is told is lost with the connection
		} else {
			go e.listen()
		}
		params, id, a := s.submit(s.Context(), r)
		if id == "" {
			s.note("python submit", a)
			s.takeLeave(r, e)
			continue
		}
		a = s.start(s.Context(), params, id)
		s.note("python start", a)
		if a.err != nil || a.status != http.StatusOK {
			s.takeLeave(r, e)
			continue
		}
		came := a.at
		if loses && !e.endOf(id, time.Duration(r.Int64N(int64(4*time.Second)))) {
			e.conn.Close()
			<-e.done
			time.Sleep(time.Duration(r.Int64N(int64(11 * time.Second))))
			e, came = connectEar(s.world), time.Now()
			go e.listen()
			e.send(subscribe)
			s.count("python came back")
		}
		e.endOf(id, 5*time.Minute)
		told := time.Now()
		read := s.caller.get("/tasks/" + id)
		s.note("python read", read)
		if r.IntN(2) == 0 {
			time.Sleep(10 * time.Second) // what is late comes
		}
		s.takeLeave(r, e)
		end := ends(e.heard(), id)
		if len(end) != 1 {
			s.Errorf("%s of %s: %d ends after %v: %s", id, params, len(end), time.Since(a.at), words(e.heard(), id))
			continue
		}
		s.mu.Lock()
		for _, p := range s.plans {
			if p.id == id {
				p.came, p.told, p.end = came, told, end[0]
			}
		}
		s.mu.Unlock()
		s.compare(end[0], read)
	}
}

// compare holds an end that was told against the record of the task, read after it.
func (s *shift) compare(end heard, read answer) {
	switch read.status {
	case http.StatusOK:
		var t blueapi.Task
		if err := json.Unmarshal([]byte(read.body), &t); err != nil || !t.IsComplete {
			s.Errorf("told: %s, its record: %v", end.body, read)
			return
		}
		failed := t.Outcome != nil && t.Outcome.Kind == "error" || len(t.Errors) > 0
		if failed != end.event.Task.Failed {
			s.Errorf("told: %s, its record: %v", end.body, read)
		}
	case http.StatusNotFound:
		s.count("python end without a record")
	}
}

// takeLeave ends a connection. It may be held up, but not for ever.
func (s *shift) takeLeave(r *rand.Rand, e *ear) {
	if r.IntN(rudeOneIn) == 0 {
		e.conn.Close()
		<-e.done
		return
	}
	e.send("UNSUBSCRIBE\nid:0\n\n\x00DISCONNECT\nreceipt:bye\n\n\x00")
	select {
	case <-e.done:
	case <-time.After(12 * time.Second):
		s.Error("who takes leave is not let go")
	}
	e.conn.Close()
	<-e.done
}

// count counts what is no answer.
func (s *shift) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.words[what]++
}

// listen only listens, until all is over.
func (s *shift) listen(r *rand.Rand) {
	e := connectEar(s.world)
	go e.listen()
	e.send(subscribe)
	begun := time.Now()
	time.Sleep(time.Until(s.end.Add(6 * time.Minute)))
	s.takeLeave(r, e)
	s.all("listener", e, begun)
}

// stall does not read for a while, and then all that waits for it.
func (s *shift) stall(r *rand.Rand) {
	for s.pause(r, stallEvery) {
		e := connectEar(s.world)
		e.send(subscribe)
		begun := time.Now()
		time.Sleep(time.Duration(r.Int64N(int64(20 * time.Minute))))
		time.Sleep(max(0, min(time.Until(s.end.Add(6*time.Minute)), 6*time.Minute)))
		go e.listen()
		time.Sleep(5 * time.Second)
		s.takeLeave(r, e)
		s.all("one who stalled", e, begun)
	}
}

// all checks that somebody has heard one end of every plan that was started from begun
// until five minutes ago, and two of none.
func (s *shift) all(who string, e *ear, begun time.Time) {
	told := map[string]int{}
	for _, h := range e.heard() {
		if h.event.State == "IDLE" && h.event.Task != nil && h.event.Task.Complete {
			told[h.task]++
		}
	}
	for id, n := range told {
		if n > 1 {
			s.Errorf("%s, since %v: %d ends of %s: %s", who, begun, n, id, words(e.heard(), id))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.plans {
		if p.at.After(begun.Add(time.Second)) && time.Since(p.at) > 5*time.Minute && told[p.id] == 0 {
			s.Errorf("%s, since %v: no end of %s, started %v", who, begun, p.id, p.at)
		}
		if told[p.id] > 0 {
			s.words[who+" heard"]++
		}
	}
}

// harmedLooks counts the looks at a task in some time that something befell.
func (s *shift) harmedLooks(task string, from, to time.Time) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.harmed {
		if strings.HasSuffix(x.URL.Path, "/tasks/"+task) && x.Time.After(from) && x.Time.Before(to) {
			n++
		}
	}
	return n
}

// checkEnds holds the ends that were told against what ran, and returns how long after
// they could be they were told: after the record says so, and after trouble, which delays
// what is read of the server.
func (s *shift) checkEnds(seed uint64) (lags []time.Duration) {
	ran := map[string]sim.Run{}
	for _, run := range s.Runs() {
		ran[string(run.Params)] = run
	}
	for _, p := range s.plans {
		if p.told.IsZero() {
			continue
		}
		run, ok := ran[p.params]
		task := p.id
		if ok {
			task = run.TaskID // it may have taken the place of that
		}
		due := slices.MaxFunc([]time.Time{p.came, run.Ended, s.Recorded(task)}, time.Time.Compare)
		unknown := p.end.event.Task.Result != nil && p.end.event.Task.Result.Type == "Unknown"
		switch {
		case ok && p.told.Before(run.Ended):
			s.Errorf("shift %d: the end of %s was told %v before it", seed, p.params, run.Ended.Sub(p.told))
		case (!ok || run.Killed) && !p.end.event.Task.Failed:
			s.Errorf("shift %d: %+v was told of %s", seed, p.end, p.params)
		case unknown:
			s.words["python end unknown"]++
			if !strings.Contains(p.end.event.Task.Result.Message, "reload") {
				s.Errorf("shift %d: %s", seed, p.end.body)
			}
		}
		limit := endLimit
		for _, t := range s.troubles {
			if t.from.Before(p.told) && t.to.After(due) {
				due, limit = t.to, endLimit+longestPace
			}
		}
		if s.harmedLooks(task, due, p.told) > 1 {
			limit = endLimit + longestPace
		}
		lag := p.told.Sub(due)
		if lags = append(lags, lag); lag > limit {
			s.Errorf("shift %d: the end of %s was told %v after it could be (ended %v told %v killed %v)", seed, p.params, lag, run.Ended, p.told, run.Killed)
		}
	}
	return lags
}
