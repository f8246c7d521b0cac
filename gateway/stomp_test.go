package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/blueapi/sim"
	"github.com/adamant-go/adamant/gateway"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

// stompRecording is a session with the real broker.
type stompRecording struct{ out, in []string }

func readStompRecording(t *testing.T, file string) (r stompRecording) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct{ Dir, Frame string }
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		switch {
		case l.Dir == "out":
			r.out = append(r.out, l.Frame)
		case l.Dir == "in" && strings.TrimSpace(l.Frame) != "":
			r.in = append(r.in, l.Frame)
		}
	}
	if lines.Err() != nil || len(r.in) == 0 {
		t.Fatalf("%s: %d frames, %v", file, len(r.in), lines.Err())
	}
	return r
}

// TestStompRecordings: what the real broker sent gets to a caller through the gateway
// byte for byte, but for the names of broker and session.
func TestStompRecordings(t *testing.T) {
	files, err := filepath.Glob("../internal/stomp/testdata/golden/*.frames")
	if err != nil || len(files) < 18 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".frames")
		if name == "server" { // it listens to nothing
			continue
		}
		t.Run(name, func(t *testing.T) {
			want := readStompRecording(t, file)
			var upstream stomp.Broker
			inStomp(t, func(w *world) {
				l, err := w.front.Listen("upstream.example:61613")
				if err != nil {
					w.Fatal(err)
				}
				go upstream.Serve(l)
				w.gateway.Broker = &blueapi.Broker{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return w.front.DialContext(ctx, network, "upstream.example:61613")
				}}
				w.Cleanup(func() { upstream.Close() })
			}, func(t *testing.T, w *world) {
				time.Sleep(time.Minute) // the gateway is not young any more
				e := dialEar(w)
				e.mu.Lock()
				e.raw = nil
				e.mu.Unlock()
				for i, frame := range want.out {
					if i == 0 {
						continue // dialEar has sent it
					}
					e.send(frame)
					time.Sleep(10 * time.Millisecond)
					if i == 1 {
						for _, f := range want.in {
							publish(t, &upstream, f)
						}
						time.Sleep(100 * time.Millisecond)
					}
				}
				time.Sleep(time.Second)
				compareFrames(t, e, want)
			})
		})
	}
}

// publish sends what was recorded of a subscriber as the server must have sent it.
func publish(t *testing.T, b *stomp.Broker, recorded string) {
	t.Helper()
	f, err := stomp.NewDecoder(strings.NewReader(recorded), stomp.Limits{}).Decode()
	if err != nil {
		t.Fatal(err)
	}
	if f.Command != "MESSAGE" {
		return
	}
	var headers []stomp.Header
	for _, h := range f.Headers {
		switch h.Name {
		case "traceparent", "JMSType", "correlation-id":
			headers = append(headers, h)
		}
	}
	slices.Reverse(headers)
	b.Publish(topic, f.Body, headers...)
}

func compareFrames(t *testing.T, e *ear, want stompRecording) {
	t.Helper()
	session := func(frame string) string { // of a message-id
		_, rest, _ := strings.Cut(frame, "@@")
		s, _, _ := strings.Cut(rest, "@@")
		return s
	}
	e.mu.Lock()
	got := slices.Clone(e.raw)
	e.mu.Unlock()
	recorded := want.in[1:] // without CONNECTED
	if len(got) != len(recorded) {
		t.Fatalf("%d frames, recorded were %d:\n%q", len(got), len(recorded), got)
	}
	for i := range got {
		want, got := recorded[i], got[i]
		if s := session(want); s != "" {
			want = strings.ReplaceAll(want, s, "S")
			got = strings.ReplaceAll(got, session(got), "S")
		}
		if got != want {
			t.Errorf("frame %d:\n%q\nrecorded:\n%q", i, got, want)
		}
	}
}

// TestStompWithoutBroker: callers stay connected, see progress, and are told the end,
// whatever the broker does.
func TestStompWithoutBroker(t *testing.T) {
	refused := errors.New("refused")
	type cut struct{ from, to time.Duration } // since the plan was started
	for name, tc := range map[string]struct {
		cut    cut
		refuse bool
		state  string
		want   string
	}{
		"never there":          {cut: cut{-time.Hour, time.Hour}, state: "away", want: "RUNNING, IDLE complete"},
		"away for 1 s":         {cut: cut{time.Second, 2 * time.Second}, state: "connected", want: "RUNNING, IDLE, IDLE complete"},
		"away at the end":      {cut: cut{4 * time.Second, 6 * time.Second}, state: "connected", want: "RUNNING, IDLE complete"},
		"away for 30 s":        {cut: cut{time.Second, 31 * time.Second}, state: "connected", want: "RUNNING, IDLE complete"},
		"away from then on":    {cut: cut{time.Second, time.Hour}, state: "away", want: "RUNNING, IDLE complete"},
		"refuses":              {refuse: true, state: "refused", want: "RUNNING, IDLE complete"},
		"away at first":        {cut: cut{-time.Hour, time.Second}, state: "connected", want: "RUNNING, IDLE, IDLE complete"},
		"none is configured":   {state: "none", want: "RUNNING, IDLE complete"},
		"there the whole time": {state: "connected", want: "RUNNING, IDLE, IDLE complete"},
	} {
		t.Run(name, func(t *testing.T) {
			var begun time.Time
			var conns []net.Conn
			away := func() bool {
				at := time.Since(begun)
				return at >= tc.cut.from && at < tc.cut.to
			}
			inStomp(t, func(w *world) {
				begun = time.Now().Add(time.Second)
				w.gateway.Broker.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					if away() {
						return nil, refused
					}
					c, err := w.DialBroker(ctx, network, addr)
					conns = append(conns, c)
					return c, err
				}
				if tc.refuse {
					w.InjectBroker(stomp.When(func(p *stomp.Passage) bool {
						return stomp.Receives("CONNECT")(p)
					}, stomp.Refuse("Bad CONNECT", "Access refused for user 'x'\n")))
				}
				if tc.state == "none" {
					w.gateway.Broker = nil
				}
			}, func(t *testing.T, w *world) {
				e := newEar(w)
				id := w.caller.submit(task("nap", `{"seconds":5}`))
				begun = time.Now()
				if a := w.caller.start(id); a.status != 200 {
					t.Fatal(a)
				}
				if tc.cut.from > 0 {
					time.Sleep(tc.cut.from)
					for _, c := range conns {
						c.Close()
					}
				}
				if !e.endOf(id, 20*time.Second) {
					t.Fatalf("no end: %s", words(e.heard(), ""))
				}
				if took := time.Since(begun); took > 7*time.Second {
					t.Errorf("the end was told after %v", took)
				}
				time.Sleep(40*time.Second - time.Since(begun))
				if got := words(e.heard(), id); got != tc.want {
					t.Errorf("told: %s", got)
				}
				s := w.gateway.Status().Stomp
				if s.Broker != tc.state || s.Since.IsZero() || (s.Cause == "") != (tc.state == "connected" || tc.state == "none") {
					t.Errorf("%+v", s)
				}
				for _, r := range w.did("STOMP", topic) {
					if r.Task != id || r.Deed != gateway.Healed {
						t.Errorf("%+v", r)
					}
				}
				if healed := !strings.Contains(tc.want, "IDLE, "); s.Healed != map[bool]int64{true: 1}[healed] || len(w.did("STOMP", topic)) != int(s.Healed) {
					t.Errorf("%+v, %v", s, w.did("STOMP", topic))
				}
			})
		})
	}
}

// TestStompOthersPlans: the ends of plans that others start, not through the gateway,
// are told without a broker too.
func TestStompOthersPlans(t *testing.T) {
	inStomp(t, func(w *world) { w.gateway.Broker = nil }, func(t *testing.T, w *world) {
		other := &blueapi.Client{URL: "http://blueapi.example", Transport: w.gateway.Transport}
		defer other.Close()
		run := func(seconds string) string {
			r, err := other.Run(t.Context(), blueapi.TaskRequest{Name: "nap", Params: json.RawMessage(`{"seconds":` + seconds + `}`), InstrumentSession: "cm1-1"})
			if err != nil {
				t.Fatal(err)
			}
			return r.TaskID
		}
		before := run("0.1")
		time.Sleep(time.Minute)
		e := newEar(w)
		time.Sleep(2 * time.Second)
		for _, seconds := range []string{"0.1", "5"} {
			id := run(seconds)
			if !e.endOf(id, 3*time.Second) {
				t.Errorf("no end of a nap of %s s", seconds)
			}
		}
		if len(ends(e.heard(), before)) > 0 {
			t.Error("the end was told of a plan that had ended long before")
		}
		e.leave()
		time.Sleep(time.Minute)
		n := len(w.Exchanges())
		time.Sleep(time.Minute)
		if more := len(w.Exchanges()) - n; more > 0 {
			t.Errorf("%d requests for nobody", more)
		}
	})
}

// TestStompRecordGone: a task whose record is gone is said to have failed, and why.
func TestStompRecordGone(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(*world, string)
		want string
	}{
		"restarted": {func(w *world, _ string) { w.Restart(2 * time.Second) }, "restarted or reloaded"},
		"reloaded":  {func(w *world, _ string) { w.Reload() }, "restarted or reloaded"},
		"deleted":   {func(w *world, id string) { w.caller.ask(context.Background(), "DELETE", "/tasks/"+id, "") }, "deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			inStomp(t, nil, func(t *testing.T, w *world) {
				e := newEar(w)
				id := w.caller.submit(task("nap", `{"seconds":50}`))
				if a := w.caller.start(id); a.status != 200 {
					t.Fatal(a)
				}
				time.Sleep(5 * time.Second)
				tc.do(w, id)
				if !e.endOf(id, 2*time.Minute) {
					t.Fatal("no end")
				}
				end := ends(e.heard(), id)[0]
				r := end.event.Task.Result
				if end.task != id || !end.event.Task.Failed || r == nil || r.Kind != "error" || r.Type != "Unknown" || !strings.Contains(r.Message, tc.want) {
					t.Errorf("%s", end.body)
				}
				time.Sleep(time.Minute)
				if n := len(ends(e.heard(), id)); n != 1 {
					t.Errorf("%d ends", n)
				}
			})
		})
	}
}

// TestStompRepeated: what is published twice in a row, documents too, is told once; the
// server's own end, if it comes within half a second, is the one that is told.
func TestStompRepeated(t *testing.T) {
	for _, late := range []time.Duration{0, 400 * time.Millisecond} {
		inStomp(t, func(w *world) {
			w.InjectBroker(stomp.When(func(p *stomp.Passage) bool { return p.Conn > 1 && stomp.Sends("MESSAGE")(p) }, stomp.Twice),
				stomp.When(sendsEnd, stomp.Delay(late)))
		}, func(t *testing.T, w *world) {
			e := newEar(w)
			id := w.caller.submit(task("many_events", `{"n":2}`))
			if a := w.caller.start(id); a.status != 200 {
				t.Fatal(a)
			}
			time.Sleep(10 * time.Second)
			if got := words(e.heard(), ""); got != "RUNNING, start, descriptor, event, event, stop, IDLE, IDLE complete" {
				t.Errorf("told: %s", got)
			}
			if s := w.gateway.Status().Stomp; s.Healed != 0 || s.Events != 8 || s.Repeated+s.Late != 8 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestStompOutcomes: what is told by a record is what the server would have said.
func TestStompOutcomes(t *testing.T) {
	for _, body := range []string{
		nap, task("fail", `{"message":"boom"}`), task("fail", `{"message":""}`), task("returns", `{"value":{"a":[1,null,"<"]}}`), task("unserialisable", `{}`),
	} {
		var said [2]string
		for i, lost := range []bool{false, true} {
			inStomp(t, func(w *world) {
				if lost {
					w.InjectBroker(stomp.When(sendsEnd, stomp.Drop))
				}
			}, func(t *testing.T, w *world) {
				e := newEar(w)
				id := w.caller.submit(body)
				w.caller.start(id)
				if !e.endOf(id, 5*time.Second) {
					t.Fatal("no end")
				}
				end := ends(e.heard(), id)[0]
				if end.task != id {
					t.Errorf("correlation-id %q", end.task)
				}
				said[i] = strings.ReplaceAll(string(end.body), id, "T")
				if healed := w.gateway.Status().Stomp.Healed == 1; healed != lost {
					t.Errorf("healed: %v", healed)
				}
			})
		}
		if said[0] != said[1] {
			t.Errorf("the server: %s\nby record:  %s", said[0], said[1])
		}
	}
}

// TestStompAlias: callers hear of a task under the id that they know, and documents
// are as they were.
func TestStompAlias(t *testing.T) {
	for _, lost := range []bool{false, true} {
		inStomp(t, func(w *world) {
			aliased(w)
			w.Inject(sim.When(put(), sim.Nth(1, sim.LoseRequest(sim.Reset))))
			if lost {
				w.InjectBroker(stomp.When(sendsEnd, stomp.Drop))
			}
		}, func(t *testing.T, w *world) {
			e := newEar(w)
			id := w.caller.submit(task("many_events", `{"n":2}`))
			if a := w.caller.start(id); a.status != 200 {
				t.Fatal(a)
			}
			if !e.endOf(id, 10*time.Second) {
				t.Fatalf("no end: %s", words(e.heard(), ""))
			}
			if got := w.did("PUT", "/worker/task")[0].Deed; got != gateway.Replaced {
				t.Fatalf("%q", got)
			}
			want := "RUNNING, start, descriptor, event, event, stop, IDLE, IDLE complete"
			if lost {
				want = strings.TrimSuffix(want, ", IDLE complete") + ", IDLE complete"
			}
			if got := words(e.heard(), id); got != want {
				t.Errorf("%s", got)
			}
			for _, h := range e.heard() {
				if h.event.Name != "" && h.event.TaskID != id {
					t.Errorf("%s of task %s", h.event.Name, h.event.TaskID)
				}
			}
		})
	}
}

// starts is a journal in memory.
// TestStompForNobody: while nobody listens, tasks whose end is not heard of are not
// collected.
func TestStompForNobody(t *testing.T) {
	inStomp(t, func(w *world) { w.gateway.Broker = nil }, func(t *testing.T, w *world) {
		time.Sleep(time.Minute)
		for range 5 {
			id := w.caller.submit(nap)
			if a := w.caller.start(id); a.status != 200 {
				t.Fatal(a)
			}
			w.caller.await(id)
			time.Sleep(time.Second)
		}
		if s := w.gateway.Status().Stomp; len(s.Following) != 1 {
			t.Errorf("%d are followed", len(s.Following))
		}
	})
}

// TestStompCredentials: the records are read with the credentials of whoever had the
// task started, by a session too.
func TestStompCredentials(t *testing.T) {
	const bearer = "Bearer secret"
	for name, start := range map[string]func(w *world){
		"by PUT": func(w *world) {
			id := w.caller.submit(nap, "Authorization", bearer)
			if a := w.caller.start(id, "Authorization", bearer); a.status != 200 {
				w.Fatal(a)
			}
		},
		"by a session": func(w *world) {
			if got := w.caller.runPlan(nap, "Authorization", bearer); got.code != 1000 {
				w.Errorf("%+v", got)
			}
		},
	} {
		inStomp(t, func(w *world) {
			w.Token = "secret"
			w.InjectBroker(stomp.When(sendsEnd, stomp.Drop))
		}, func(t *testing.T, w *world) {
			e := newEar(w)
			start(w)
			if !e.endOf(w.Runs()[0].TaskID, 5*time.Second) {
				t.Errorf("%s: no end", name)
			}
		})
	}
}

// TestStompEnds: whatever becomes of the end event, of the connection to the broker at
// any event, and of the server, each subscriber is told exactly one end of each task.
func TestStompEnds(t *testing.T) {
	faults := map[string]stomp.Fault{
		"as it is": nil, "lost": stomp.Drop, "late": stomp.Delay(700 * time.Millisecond), "very late": stomp.Delay(5 * time.Second), "twice": stomp.Twice,
	}
	happens := map[string]func(*world){
		"nothing": nil,
		"restart": func(w *world) { w.Restart(time.Second) },
		"reload":  func(w *world) { w.caller.ask(context.Background(), "DELETE", "/environment", "") },
		"silence": func(w *world) { // between gateway and server
			w.Network().Set(memnet.BlackHole)
			time.Sleep(900 * time.Millisecond)
			w.Network().Set(memnet.Healthy)
		},
	}
	const events = 12
	type row struct {
		fault, happens string
		cut            int // at which event; 0 is never
		clean          bool
	}
	var rows []row
	for fault := range faults {
		for what := range happens {
			for cut := range events + 1 {
				rows = append(rows, row{fault, what, cut, false}, row{fault, what, cut, true})
			}
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	if !everything() {
		random := rand.New(rand.NewPCG(6, 3))
		random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		rows = rows[:60]
	}
	for _, r := range rows {
		inStomp(t, func(w *world) {
			if f := faults[r.fault]; f != nil {
				w.InjectBroker(stomp.When(func(p *stomp.Passage) bool { return p.Conn > 1 && sendsEnd(p) }, f))
			}
			if r.cut > 0 {
				n := 0
				if r.clean {
					n = 1 << 20 // after the whole of it
				}
				w.InjectBroker(stomp.When(stomp.Sends("MESSAGE"), stomp.Nth(r.cut, stomp.Cut(n))))
			}
		}, func(t *testing.T, w *world) {
			listener := newEar(w)
			var ids []string
			var told [][]heard
			for i, plan := range []string{task("many_events", `{"n":2,"delay":0.2}`), task("nap", `{"seconds":0.3}`), nap} {
				python := dialEar(w)
				python.send(subscribe)
				id := w.caller.submit(plan)
				if a := w.caller.start(id); a.status != 200 {
					t.Fatalf("%+v: %v", r, a)
				}
				ids = append(ids, id)
				if do := happens[r.happens]; do != nil && i == 1 {
					do(w)
				}
				if !python.endOf(id, 2*time.Minute) {
					t.Fatalf("%+v: no end of task %d: %s", r, i, words(python.heard(), ""))
				}
				time.Sleep(6 * time.Second) // what is late comes
				told = append(told, python.heard())
				python.leave()
			}
			for i, id := range ids {
				if n := len(ends(told[i], id)); n != 1 {
					t.Errorf("%+v: task %d: %d ends: %s", r, i, n, words(told[i], id))
				}
				if n := len(ends(listener.heard(), id)); n != 1 {
					t.Errorf("%+v: task %d: %d ends for the listener: %s", r, i, n, words(listener.heard(), id))
				}
			}
		})
	}
}

// TestStompNameless: what is said about the end of a task without naming it is passed on,
// and nothing is made of it.
func TestStompNameless(t *testing.T) {
	inStomp(t, nil, func(t *testing.T, w *world) {
		e := newEar(w)
		said := `{"state":"IDLE","task_status":{"task_id":"","result":null,"task_complete":true,"task_failed":false},"errors":[],"warnings":[]}`
		conn, err := (&stomp.Client{Address: "broker.sim:61613", Dial: w.DialBroker}).Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.Send(t.Context(), topic, []byte(said)); err != nil {
			t.Fatal(err)
		}
		id := w.caller.submit(nap)
		w.caller.start(id)
		if !e.endOf(id, 5*time.Second) {
			t.Error("no end")
		}
		if got := e.heard(); string(got[0].body) != said {
			t.Errorf("told: %s", got[0].body)
		}
	})
}

// TestStompRefuses: callers only listen, to what there is, and may have to log in.
func TestStompRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ send, want string }{
		"another topic": {"SUBSCRIBE\nid:1\ndestination:/topic/other\n\n\x00", "Unknown destination"},
		"a message":     {"SEND\ndestination:" + topic + "\n\n{}\x00", "Not allowed"},
		"no STOMP":      {"GET / HTTP/1.1\r\n\r\n", "Bad frame"},
	} {
		inStomp(t, nil, func(t *testing.T, w *world) {
			e := dialEar(w)
			e.send(tc.send)
			<-e.done
			if got := e.frames[len(e.frames)-1]; got.Command != "ERROR" || got.Get("message") != tc.want {
				t.Errorf("%s: %v", name, got)
			}
		})
	}
	inStomp(t, func(w *world) { w.gateway.StompLogin, w.gateway.StompPasscode = "guest", "another" }, func(t *testing.T, w *world) {
		e := dialEar(w)
		<-e.done
		if got := e.frames[0]; got.Get("message") != "Bad CONNECT" || strings.Contains(e.raw[0], "another") {
			t.Errorf("%q", e.raw)
		}
	})
	inStomp(t, func(w *world) { w.gateway.StompLogin, w.gateway.StompPasscode = "guest", "guest" }, func(t *testing.T, w *world) {
		e := dialEar(w)
		e.send("SUBSCRIBE\nid:x\ndestination:/exchange/amq.topic/public.worker.event\nreceipt:r\n\n\x00")
		time.Sleep(time.Second)
		id := w.caller.submit(nap)
		w.caller.start(id)
		if !e.endOf(id, 5*time.Second) || e.frames[0].Command != "CONNECTED" || e.frames[1].Get("receipt-id") != "r" {
			t.Errorf("%q", e.raw)
		}
	})
}

// TestStompAfterClose: a closed gateway listens to nobody.
func TestStompAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.gateway.Close()
		serveStomp(t, w, w.gateway.ServeStomp)
		time.Sleep(time.Second)
		if _, err := w.front.DialContext(t.Context(), "tcp", stompAddr); err == nil {
			t.Error("somebody listens")
		}
	})
}
