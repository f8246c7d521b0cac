package sim

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// ControlHandler serves what a test does to the server, for programs that are not
// written in Go. It needs an address of its own, or a prefix and
// http.StripPrefix, and asks nobody who they are. Bodies are JSON; members
// that are not named here are refused.
//
//	GET    /faults       the faults, as ParseFault has them: ["status=503 GET /plans"]
//	POST   /faults       {"fault": "status=503 GET /plans"} injects one
//	DELETE /faults       heals: there are no faults any more
//	POST   /freeze       Freeze
//	POST   /unfreeze     Unfreeze
//	POST   /restart      Restart; {"after": "2s"} is how long it is away
//	POST   /terminate    Terminate; {"after": "2s"} likewise
//	POST   /reload       Reload
//	POST   /kill-worker  KillWorker: it hangs until the next restart
//	POST   /break        Break; {"message": "..."} is what is wrong, none if nothing is any more
//	POST   /broker/stop  StopBroker
//	POST   /broker/start StartBroker
//	GET    /runs         every run of a plan: [{"task_id", "plan", "params", "began", "ended", "killed", "aborted"}]
//	GET    /exchanges    every request: [{"n", "time", "method", "path", "status"}]
//
// GET answers 200. Whatever does something answers 204 when it has been done,
// which for a restart, a termination and a reload is when it has begun. What is
// wrong with a request is told by 400 and {"error": "..."}. Times are RFC 3339;
// ended is null while a plan runs; status is 0 for an answer that was lost, cut or
// is not there yet. A fault that was injected by Go code has no words: it is listed
// as "?".
func (s *Server) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { tell(w, 200, s.faultWords()) })
	mux.HandleFunc("GET /runs", func(w http.ResponseWriter, _ *http.Request) { tell(w, 200, s.runList()) })
	mux.HandleFunc("GET /exchanges", func(w http.ResponseWriter, _ *http.Request) { tell(w, 200, s.exchangeList()) })
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		var order struct {
			Fault string `json:"fault"`
		}
		obey(w, r, &order, func() error {
			f, err := ParseFault(order.Fault)
			if err == nil {
				s.inject(injected{f, strings.Join(strings.Fields(order.Fault), " ")})
			}
			return err
		})
	})
	for pattern, do := range map[string]func(time.Duration){"POST /restart": s.Restart, "POST /terminate": s.Terminate} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var order struct {
				After string `json:"after"`
			}
			obey(w, r, &order, func() error {
				if order.After == "" {
					order.After = "0s"
				}
				d, err := time.ParseDuration(order.After)
				if err == nil {
					do(d)
				}
				return err
			})
		})
	}
	mux.HandleFunc("POST /break", func(w http.ResponseWriter, r *http.Request) {
		var order struct {
			Message string `json:"message"`
		}
		obey(w, r, &order, func() error { s.Break(order.Message); return nil })
	})
	for pattern, do := range map[string]func(){
		"DELETE /faults":     s.Heal,
		"POST /freeze":       s.Freeze,
		"POST /unfreeze":     s.Unfreeze,
		"POST /reload":       s.Reload,
		"POST /kill-worker":  s.KillWorker,
		"POST /broker/stop":  s.StopBroker,
		"POST /broker/start": s.StartBroker,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			obey(w, r, &struct{}{}, func() error { do(); return nil })
		})
	}
	return mux
}

// maxOrder is how long the body of an order may be; a fault is a line.
const maxOrder = 64 << 10

// obey reads an order, whose body may be empty, and does it.
func obey(w http.ResponseWriter, r *http.Request, order any, do func() error) {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder))
	d.DisallowUnknownFields()
	err := d.Decode(order)
	if err == nil || errors.Is(err, io.EOF) {
		err = do()
	}
	if err != nil {
		tell(w, http.StatusBadRequest, struct {
			Error string `json:"error"`
		}{err.Error()})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func tell(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(marshal(v), '\n'))
}

func (s *Server) faultWords() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := []string{}
	for _, f := range s.faults {
		if f.words == "" {
			f.words = "?"
		}
		words = append(words, f.words)
	}
	return words
}

type controlRun struct {
	TaskID  string          `json:"task_id"`
	Plan    string          `json:"plan"`
	Params  json.RawMessage `json:"params"`
	Began   time.Time       `json:"began"`
	Ended   *time.Time      `json:"ended"`
	Killed  bool            `json:"killed"`
	Aborted bool            `json:"aborted"`
}

func (s *Server) runList() []controlRun {
	list := []controlRun{}
	for _, r := range s.Runs() {
		c := controlRun{TaskID: r.TaskID, Plan: r.Plan, Params: r.Params, Began: r.Began, Killed: r.Killed, Aborted: r.Aborted}
		if !r.Ended.IsZero() {
			c.Ended = &r.Ended
		}
		list = append(list, c)
	}
	return list
}

type controlExchange struct {
	N      int       `json:"n"`
	Time   time.Time `json:"time"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Status int       `json:"status"`
}

func (s *Server) exchangeList() []controlExchange {
	list := []controlExchange{}
	for _, x := range s.Exchanges() {
		list = append(list, controlExchange{x.N, x.Time, x.Method, x.URL.RequestURI(), x.Status})
	}
	return list
}
