package gateway_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"
)

// TestRunPlan: a plan can be run by WebSocket.
func TestRunPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		conn, _, err := websocket.Dial(t.Context(), "ws://gateway.example/api/v2/run_plan", &websocket.DialOptions{HTTPClient: w.caller.http})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"kind":"submit","task":`+nap+`}`)); err != nil {
			t.Fatal(err)
		}
		var last string
		for {
			_, b, err := conn.Read(t.Context())
			if err != nil {
				if websocket.CloseStatus(err) != websocket.StatusNormalClosure || !strings.Contains(last, `"task_complete":true`) {
					t.Errorf("%v after %s", err, last)
				}
				break
			}
			last = string(b)
		}
		if n := len(w.Runs()); n != 1 {
			t.Errorf("%d runs", n)
		}
	})
}
