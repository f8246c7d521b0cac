package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/adamant-go/adamant/blueapi"
	"github.com/adamant-go/adamant/internal/config"
	"github.com/adamant-go/adamant/internal/memnet"
	"github.com/adamant-go/adamant/internal/stomp"
)

func TestBrokerOf(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"tcp://localhost:61613":     "localhost:61613",
		"tcp://localhost:61613/":    "localhost:61613",
		"tcp://[::1]:61613":         "[::1]:61613",
		"tcp://u:secret@host:61613": "host:61613",
		"tcp://u:secret@host":       "",
		"tcp://:61613":              "",
	} {
		b, err := brokerOf(config.Stomp{URL: url, Username: "guest", Password: "passcode"})
		switch {
		case want == "":
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v, %v", url, b, err)
			}
		case err != nil || b.Address != want || b.Login != "guest" || b.Passcode != "passcode":
			t.Errorf("%s: %+v, %v", url, b, err)
		}
	}
}

// ear is a listen under test, in a bubble.
type ear struct {
	app       *app
	out, errs bytes.Buffer
	stomp     *stomp.Broker
	network   memnet.Network
	broker    *blueapi.Broker
}

func newEar(t *testing.T) *ear {
	e := &ear{}
	e.app = &app{ui: &ui{out: &e.out, err: &e.errs}}
	e.broker = &blueapi.Broker{Address: "broker:61613", Dial: e.network.DialContext}
	e.start(t)
	t.Cleanup(func() { _ = e.stomp.Close() })
	return e
}

// start starts the broker.
func (e *ear) start(t *testing.T) {
	l, err := e.network.Listen("broker:61613")
	if err != nil {
		t.Error(err)
		return
	}
	e.stomp = new(stomp.Broker)
	go func() { _ = e.stomp.Serve(l) }()
}

func (e *ear) publish(events ...string) {
	for _, event := range events {
		e.stomp.Publish(blueapi.DefaultDestination, []byte(event))
	}
	synctest.Wait()
}

// heard listens while something happens.
func (e *ear) heard(t *testing.T, o listenOptions, f format, happens func()) (stdout, stderr string) {
	t.Helper()
	e.out.Reset()
	e.errs.Reset()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- e.app.listenTo(ctx, e.broker, o, f) }()
	synctest.Wait()
	happens()
	synctest.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return e.out.String(), e.errs.String()
}

const (
	listened  = "adamant: listening to broker:61613\n"
	running   = `{"state": "RUNNING", "task_status": {"task_id": "T", "result": null, "task_complete": false, "task_failed": false}, "errors": [], "warnings": []}`
	startDoc  = `{"name": "start", "doc": {"uid": "1"}, "task_id": "T"}`
	pointDoc  = `{"name": "event", "doc": {"uid": "2"}, "task_id": "U"}`
	stopDoc   = `{"name": "stop", "doc": {"uid": "3"}, "task_id": "U"}`
	someMoves = `{"task_id": "U", "statuses": {}}`
)

// TestListenFilters shows the events that are wanted, and no others.
func TestListenFilters(t *testing.T) {
	t.Parallel()
	all := []string{running, startDoc, pointDoc, stopDoc, someMoves, `{"later": "kind"}`}
	for _, tt := range []struct {
		name string
		o    listenOptions
		want []int
	}{
		{"everything", listenOptions{}, []int{0, 1, 2, 3, 4, 5}},
		{"worker", listenOptions{types: eventTypes{"worker"}}, []int{0}},
		{"data", listenOptions{types: eventTypes{"data"}}, []int{1, 2, 3}},
		{"progress, start and stop", listenOptions{types: eventTypes{"stop", "start", "progress"}}, []int{1, 3, 4}},
		{"a task", listenOptions{task: "T"}, []int{0, 1}},
		{"data of a task", listenOptions{task: "U", types: eventTypes{"data"}}, []int{2, 3}},
		{"nothing", listenOptions{task: "V"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEar(t)
				stdout, _ := e.heard(t, tt.o, jsonText, func() { e.publish(all...) })
				want := ""
				for _, i := range tt.want {
					want += all[i] + "\n"
				}
				if diff := cmp.Diff(want, stdout); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		})
	}
}

func TestListenInWords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEar(t)
		stdout, stderr := e.heard(t, listenOptions{}, compact, func() { e.publish(running, startDoc, someMoves, `{"later": "kind"}`) })
		if want := "Worker Event: RUNNING\nData Event: start\nProgress: ???%\n"; stdout != want {
			t.Errorf("stdout %q", stdout)
		}
		if want := listened + "adamant: an event that could not be read: an event of a kind that is not known\nadamant: 4 events\n"; stderr != want {
			t.Errorf("stderr %q", stderr)
		}
		if stdout, _ := e.heard(t, listenOptions{}, full, func() { e.publish(startDoc) }); stdout != "Start:\n    uid: 1\n" {
			t.Errorf("stdout %q", stdout)
		}
	})
}

// TestListenThroughOutages goes on when the broker does, and says what may be missing.
func TestListenThroughOutages(t *testing.T) {
	t.Parallel()
	for _, away := range []time.Duration{0, time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			e := newEar(t)
			path := filepath.Join(t.TempDir(), "record")
			stdout, stderr := e.heard(t, listenOptions{record: path}, jsonText, func() {
				e.publish(startDoc)
				if away == 0 {
					e.stomp.Disconnect()
				} else {
					_ = e.stomp.Close()
					time.Sleep(away)
					e.start(t)
				}
				time.Sleep(5 * time.Second)
				e.publish(stopDoc)
			})
			lines := strings.Split(stdout, "\n")
			if len(lines) != 5 || lines[0] != startDoc || lines[3] != stopDoc ||
				!strings.HasPrefix(lines[1], `{"gap":{"from":"`) || !strings.Contains(lines[1], `"until":null`) ||
				!strings.HasPrefix(lines[2], `{"gap":{"from":"`) || strings.Contains(lines[2], `"until":null`) {
				t.Errorf("away for %v: stdout\n%s", away, stdout)
			}
			if !strings.HasPrefix(stderr, listened+"adamant: the broker is away: events may be missing (") ||
				!strings.Contains(stderr, "\nadamant: the broker is back after ") || !strings.HasSuffix(stderr, "\nadamant: 2 events, with gaps\n") {
				t.Errorf("away for %v: stderr\n%s", away, stderr)
			}
			var replayed bytes.Buffer
			a := &app{ui: &ui{out: &replayed, err: io.Discard}}
			if err := a.listen(t.Context(), listenOptions{replay: path}, jsonText); err != nil || replayed.String() != stdout {
				t.Errorf("replayed\n%s%v", cmp.Diff(stdout, replayed.String()), err)
			}
		})
	}
}

func TestListenToNobody(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*testing.T, *ear)
		want   string
		took   time.Duration // 0: whatever it takes to be refused
	}{
		{"away", func(_ *testing.T, e *ear) { _ = e.stomp.Close() }, "the message broker cannot be reached: ", subscribePatience},
		{"away, and waited for", func(_ *testing.T, e *ear) { _ = e.stomp.Close(); e.app.wait = time.Minute }, "the message broker cannot be reached: ", time.Minute},
		{"silent", func(_ *testing.T, e *ear) {
			e.broker.Dial = func(context.Context, string, string) (net.Conn, error) {
				c, other := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, other) }()
				return c, nil
			}
		}, "the message broker at broker:61613 does not answer", subscribePatience},
		{"wrong passcode", func(_ *testing.T, e *ear) {
			e.stomp.Login, e.stomp.Passcode = "guest", "right"
			e.broker.Login, e.broker.Passcode = "guest", "wrong"
		}, "the message broker at broker:61613 refuses: ", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEar(t)
				tt.change(t, e)
				begin := time.Now()
				err := e.app.listenTo(t.Context(), e.broker, listenOptions{}, compact)
				if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "wrong") {
					t.Errorf("%v", err)
				}
				if took := time.Since(begin); took < tt.took || took > max(tt.took, subscribePatience)+time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestListenEnds when its time is over, or it is interrupted, whatever it does.
func TestListenEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEar(t)
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := e.app.listenTo(limited, e.broker, listenOptions{}, compact); err != nil || e.errs.String() != listened+"adamant: 0 events\n" {
			t.Errorf("%v, stderr %q", err, &e.errs)
		}
		_ = e.stomp.Close()
		if stdout, stderr := e.heard(t, listenOptions{}, compact, func() {}); stdout != "" || stderr != "adamant: 0 events\n" {
			t.Errorf("stdout %q, stderr %q", stdout, stderr)
		}
	})
}

func TestListenCannotWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEar(t)
		e.app.ui.out = fullDisk{}
		go func() {
			synctest.Wait()
			e.publish(startDoc)
		}()
		if err := e.app.listenTo(t.Context(), e.broker, listenOptions{}, compact); err == nil || err.Error() != "cannot write the result: no space left" {
			t.Errorf("%v", err)
		}
	})
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	synctest.Test(t, func(t *testing.T) {
		e := newEar(t)
		go func() {
			synctest.Wait()
			e.publish(startDoc)
		}()
		err := e.app.listenTo(t.Context(), e.broker, listenOptions{record: "/dev/full"}, compact)
		if err == nil || !strings.HasPrefix(err.Error(), "--record: ") {
			t.Errorf("%v", err)
		}
	})
}
