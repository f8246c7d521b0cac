package blueapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/adamant-go/adamant/blueapi"
)

// change changes the server's tasks.
func (s *replayer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// add has the server have a task like the request, with changes.
func (s *replayer) add(id string, changes ...string) map[string]any {
	r := s.rec.request
	task := taskOf(id, r)
	for _, c := range changes {
		switch c {
		case "begun":
			task["is_pending"] = false
		case "ended":
			task["is_pending"], task["is_complete"] = false, true
			task["outcome"] = map[string]any{"outcome": "success", "result": nil, "type": "NoneType"}
		case "other plan":
			task["task"].(map[string]any)["name"] = "other"
		case "other params":
			task["task"].(map[string]any)["params"] = json.RawMessage(`{"seconds":0.4}`)
		case "other session":
			task["task"].(map[string]any)["metadata"] = map[string]any{"instrument_session": "cm12345-2"}
		}
	}
	s.change(func() { s.tasks = append(s.tasks, task) })
	return task
}

func (s *replayer) set(task map[string]any, as map[string]any) {
	s.change(func() { maps.Copy(task, as) })
}

// hold keeps the connection open without a word until the client leaves.
func hold(conn *websocket.Conn) { <-conn.CloseRead(context.Background()).Done() }

var endedWell = map[string]any{"is_complete": true, "outcome": map[string]any{"outcome": "success", "result": nil, "type": "NoneType"}}

// TestWebSocketUnnamed: what becomes of a run of which the server has not named the
// task. The request is never sent again, and a task that may be somebody else's never
// makes the word Done.
func TestWebSocketUnnamed(t *testing.T) {
	for name, tt := range map[string]struct {
		play   func(*replayer, *websocket.Conn)
		before []string // tasks that there were
		word   blueapi.Word
		reason blueapi.Reason
		like   []string // tasks that may be the run's
		left   []string // at the server
		notes  string
		least  time.Duration // how long it took at least
	}{
		"nothing appears": {
			play: func(*replayer, *websocket.Conn) {}, word: blueapi.Unknown, reason: blueapi.Silent,
			notes: "intent, starting, looking, ended", least: time.Minute,
		},
		"nothing appears, and the connection is silent": {
			play: func(_ *replayer, c *websocket.Conn) { hold(c) }, word: blueapi.Unknown, reason: blueapi.Silent,
			notes: "intent, starting, looking, ended", least: time.Minute,
		},
		"others appear": {
			play: func(s *replayer, _ *websocket.Conn) {
				s.add("a", "begun", "other plan")
				s.add("b", "begun", "other params")
				s.add("c", "begun", "other session")
			},
			before: []string{"d"}, word: blueapi.Unknown, reason: blueapi.Silent, left: []string{"d", "a", "b", "c"},
			notes: "intent, starting, looking, ended", least: time.Minute,
		},
		"it has ended": {
			play: func(s *replayer, _ *websocket.Conn) { s.add("a", "ended") },
			word: blueapi.Unknown, reason: blueapi.Silent, like: []string{"a"}, left: []string{"a"},
			notes: "intent, starting, looking, ended a",
		},
		"it begins late, and ends": {
			play: func(s *replayer, _ *websocket.Conn) {
				time.Sleep(30 * time.Second)
				a := s.add("a", "begun")
				time.Sleep(5 * time.Minute)
				s.set(a, endedWell)
			},
			word: blueapi.Unknown, reason: blueapi.Silent, like: []string{"a"}, left: []string{"a"},
			notes: "intent, starting, looking, ended a", least: 5 * time.Minute,
		},
		"it has ended, and another appears meanwhile": {
			play: func(s *replayer, c *websocket.Conn) {
				a := s.add("a", "begun")
				_ = c.CloseNow()
				time.Sleep(3 * time.Second)
				s.add("b")
				s.set(a, endedWell)
			},
			word: blueapi.Unknown, reason: blueapi.Silent, like: []string{"a", "b"}, left: []string{"a", "b"},
			notes: "intent, starting, looking, ended a",
		},
		"it is deleted while it runs": {
			play: func(s *replayer, c *websocket.Conn) {
				s.add("a", "begun")
				_ = c.CloseNow()
				time.Sleep(3 * time.Second)
				s.change(func() { s.tasks = s.tasks[:0] })
			},
			word: blueapi.Unknown, reason: blueapi.Removed,
			notes: "intent, starting, looking, ended a",
		},
		"it is deleted while it runs, and was the worker's last": {
			play: func(s *replayer, c *websocket.Conn) {
				s.add("a", "begun")
				_ = c.CloseNow()
				time.Sleep(3 * time.Second)
				s.change(func() { s.tasks, s.last = s.tasks[:0], "a" })
			},
			word: blueapi.Unknown, reason: blueapi.RecordLost,
			notes: "intent, starting, looking, ended a",
		},
		"it is named after all": {
			play: func(s *replayer, c *websocket.Conn) {
				s.add("a", "begun")
				time.Sleep(20 * time.Second)
				update := `{"kind":"update","data":{"name":"start","doc":{},"task_id":"a"}}`
				_ = c.Write(context.Background(), websocket.MessageText, []byte(update))
				time.Sleep(10 * time.Second)
				s.change(func() { s.tasks[0]["is_complete"], s.tasks[0]["outcome"] = true, endedWell["outcome"] })
				hold(c)
			},
			word: blueapi.Done, reason: blueapi.Ended, left: []string{"a"},
			notes: "intent, starting, looking, started a, ended a", least: 30 * time.Second,
		},
		"another is named after all": {
			play: func(s *replayer, c *websocket.Conn) {
				s.add("a", "begun")
				time.Sleep(20 * time.Second)
				s.add("b", "ended")
				update := `{"kind":"update","data":{"name":"start","doc":{},"task_id":"b"}}`
				_ = c.Write(context.Background(), websocket.MessageText, []byte(update))
			},
			word: blueapi.Done, reason: blueapi.Ended, left: []string{"a", "b"},
			notes: "intent, starting, looking, started b, ended b",
		},
		"it is refused after all": {
			play: func(s *replayer, c *websocket.Conn) {
				s.add("a", "begun")
				time.Sleep(20 * time.Second)
				s.add("b")
				_ = c.Write(context.Background(), websocket.MessageText, []byte(`{"kind":"busy"}`))
				_ = c.Close(websocket.StatusTryAgainLater, "")
			},
			word: blueapi.NotStarted, reason: blueapi.Busy, left: []string{"a"},
			notes: "intent, starting, looking, withdrawn b, ended b",
		},
		"it is not allowed after all": {
			play: func(s *replayer, c *websocket.Conn) {
				s.add("a", "begun")
				time.Sleep(20 * time.Second)
				_ = c.Write(context.Background(), websocket.MessageText, []byte(`{"kind":"unauthorized"}`))
			},
			word: blueapi.NotStarted, reason: blueapi.Refused, left: []string{"a"},
			notes: "intent, starting, looking, ended",
		},
		"a busy server leaves two behind": {
			play: func(s *replayer, c *websocket.Conn) {
				s.add("a")
				s.add("b")
				_ = c.Write(context.Background(), websocket.MessageText, []byte(`{"kind":"busy"}`))
			},
			word: blueapi.NotStarted, reason: blueapi.Busy, left: []string{"a", "b"},
			notes: "intent, starting, ended",
		},
		"somebody says to come later": { // which is not how blueapi says it
			play: func(_ *replayer, c *websocket.Conn) { _ = c.Close(websocket.StatusTryAgainLater, "") },
			word: blueapi.Unknown, reason: blueapi.Silent,
			notes: "intent, starting, looking, ended", least: time.Minute,
		},
		"it waits": {
			play: func(s *replayer, _ *websocket.Conn) { s.add("a") },
			word: blueapi.NotStarted, reason: blueapi.Withdrawn,
			notes: "intent, starting, looking, looking, withdrawing, withdrawn a, ended a", least: 6 * time.Second,
		},
		"it waits, and the connection is silent": {
			play: func(s *replayer, c *websocket.Conn) { s.add("a"); hold(c) },
			word: blueapi.Unknown, reason: blueapi.Silent, like: []string{"a"}, left: []string{"a"},
			notes: "intent, starting, looking, ended", least: time.Minute,
		},
		"it waits, and begins as it is withdrawn": {
			play: func(s *replayer, c *websocket.Conn) {
				a := s.add("a")
				_ = c.CloseNow()
				time.Sleep(7500 * time.Millisecond)
				s.set(a, map[string]any{"is_pending": false})
				time.Sleep(3 * time.Second)
				s.set(a, endedWell)
			},
			word: blueapi.Unknown, reason: blueapi.Silent, like: []string{"a"}, left: []string{"a"},
			notes: "intent, starting, looking, looking, ended a",
		},
		"two wait": {
			play: func(s *replayer, _ *websocket.Conn) { s.add("a"); s.add("b") },
			word: blueapi.Unknown, reason: blueapi.Silent, like: []string{"a", "b"}, left: []string{"a", "b"},
			notes: "intent, starting, looking, ended", least: 6 * time.Second,
		},
		"the environment changes": {
			play: func(s *replayer, _ *websocket.Conn) { s.change(func() { s.env = "e2" }) },
			word: blueapi.Unknown, reason: blueapi.EnvironmentChanged,
			notes: "intent, starting, looking, ended",
		},
		"the server goes away": {
			play: func(s *replayer, _ *websocket.Conn) { go s.restart() },
			word: blueapi.Unknown, reason: blueapi.EnvironmentChanged,
			notes: "intent, starting, looking, ended", least: 10 * time.Second,
		},
		"what is no message comes first": {
			play: func(s *replayer, c *websocket.Conn) {
				for _, text := range []string{"", "null", "hello", `{"kind":"later"}`, `[]`, `{"kind":"update"}`} {
					_ = c.Write(context.Background(), websocket.MessageText, []byte(text))
				}
				_ = c.Write(context.Background(), websocket.MessageBinary, []byte{0xff})
				s.add("a", "ended")
				_ = c.Write(context.Background(), websocket.MessageText, []byte(`{"kind":"update","data":{"task_id":"a","name":"stop","doc":{}}}`))
			},
			word: blueapi.Done, reason: blueapi.Ended, left: []string{"a"},
			notes: "intent, starting, started a, ended a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			rec := readRecording(t, "success")
			synctest.Test(t, func(t *testing.T) {
				s, c := newReplayer(t, rec)
				for _, id := range tt.before {
					s.add(id, "begun")
				}
				s.play = func(c *websocket.Conn) { tt.play(s, c) }
				var told socketNotes
				told.attach(c)
				begin := time.Now()
				result, err := c.RunWebSocket(t.Context(), rec.request)
				took := time.Since(begin)
				if result.Word != tt.word || result.Reason != tt.reason || blueapi.WordOf(err) != tt.word || s.submits != 1 {
					t.Fatalf("%v for reason %d, submitted %d times: %v", result.Word, result.Reason, s.submits, err)
				}
				if result.Word != blueapi.Done && (result.Started || result.Outcome != nil) {
					t.Errorf("%+v", result)
				}
				if took < tt.least || took > tt.least+time.Minute+20*time.Second {
					t.Errorf("took %v", took)
				}
				unnamed, _ := errors.AsType[*blueapi.UnnamedError](err)
				if (unnamed != nil) != (result.Word == blueapi.Unknown && result.Reason == blueapi.Silent) {
					t.Errorf("%v", err)
				}
				var like, left []string
				if unnamed != nil {
					for _, task := range unnamed.Tasks {
						like = append(like, task.ID)
						if !strings.Contains(err.Error(), "task "+task.ID) && !strings.Contains(err.Error(), " "+task.ID+", ") {
							t.Errorf("task %s is not told: %v", task.ID, err)
						}
					}
				}
				<-s.over
				for _, task := range s.tasks {
					left = append(left, task["task_id"].(string))
				}
				if !slices.Equal(like, tt.like) || !slices.Equal(left, tt.left) {
					t.Errorf("tasks that may be it: %v, tasks that are left: %v", like, left)
				}
				if notes := strings.Join(told.notes, ", "); notes != tt.notes {
					t.Errorf("told %s", notes)
				}
			})
		})
	}
}

// TestWebSocketSameRequest: which tasks ask for the same.
func TestWebSocketSameRequest(t *testing.T) {
	for params, same := range map[string]bool{
		`{"seconds":0.3}`: true, `{ "seconds": 3e-1 }`: true, `{"seconds":0.4}`: false, `{"seconds":"0.3"}`: false,
		`{"seconds":0.3,"more":null}`: false, `{}`: false, `[]`: false,
	} {
		rec := readRecording(t, "success")
		synctest.Test(t, func(t *testing.T) {
			s, c := newReplayer(t, rec)
			s.play = func(*websocket.Conn) {
				s.add("a", "ended")["task"].(map[string]any)["params"] = json.RawMessage(params)
			}
			_, err := c.RunWebSocket(t.Context(), rec.request)
			unnamed, _ := errors.AsType[*blueapi.UnnamedError](err)
			if unnamed == nil || (len(unnamed.Tasks) == 1) != same {
				t.Errorf("%s: %v", params, err)
			}
		})
	}
}
