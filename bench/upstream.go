package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/adamant-go/adamant/gateway"
)

// taskBody is what blueapi says of a task, in length and form.
const taskBody = `{"task_id":"ID","request":{"name":"sleep","params":{"time":0.5},"metadata":{"instrument_session":"cm12345-1"}},` +
	`"is_complete":false,"is_pending":true,"errors":[],"outcome":null}`

// serveUpstream is a server that answers as blueapi does, at once.
func serveUpstream(ctx context.Context, addr string) error {
	answer := func(w http.ResponseWriter, status int, body string) {
		h := w.Header()
		h["Server"] = []string{"uvicorn"}
		h["Content-Type"] = []string{"application/json"}
		h["X-Api-Version"] = []string{"1.5.0"}
		h["X-Blueapi-Version"] = []string{"1.21.1"}
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
	return serve(ctx, addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/api/v1")
		id, isTask := strings.CutPrefix(path, "/tasks/")
		switch {
		case path == "/worker/state":
			answer(w, http.StatusOK, `"IDLE"`)
		case path == "/tasks" && r.Method == http.MethodPost:
			h := w.Header()
			h.Set("Location", "http://"+r.Host+"/api/v1/tasks/6f3a1c3e-0000-4000-8000-000000000000")
			answer(w, http.StatusCreated, `{"task_id":"6f3a1c3e-0000-4000-8000-000000000000"}`)
		case isTask:
			answer(w, http.StatusOK, strings.Replace(taskBody, "ID", id, 1))
		default:
			answer(w, http.StatusNotFound, `{"detail":"Not Found"}`)
		}
	}))
}

func serveGateway(ctx context.Context, o options) error {
	g := &gateway.Gateway{Upstream: "http://" + o.upstream, Wait: 30 * time.Second, MaxWaiting: 100_000}
	defer func() { _ = g.Close() }()
	giveBack(ctx)
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return serve(ctx, o.listen, g)
}

func serve(ctx context.Context, addr string, h http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	_ = s.Serve(l) // until it is closed
	return nil
}
