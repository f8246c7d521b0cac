package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/adamant-go/adamant/gateway"
)

// gatewayLog tells what became of callers' requests: on stderr those that needed
// something, and all of them in the file of records.
type gatewayLog struct {
	log *slog.Logger

	mu      sync.Mutex
	records io.Writer // nil: there is none, or no more
	file    *os.File  // to be closed
	failed  bool
}

// openGatewayLog opens the file of records.
func (a *app) openGatewayLog(p *gatewayPlan) (*gatewayLog, error) {
	level := slog.LevelInfo
	switch a.level {
	case verbose:
		level = slog.LevelDebug
	case quiet:
		level = slog.LevelError
	}
	l := &gatewayLog{}
	options := &slog.HandlerOptions{Level: level}
	if p.Log == "json" {
		l.log = slog.New(slog.NewJSONHandler(stderr{a.ui}, options))
	} else {
		l.log = slog.New(slog.NewTextHandler(stderr{a.ui}, options))
	}
	var err error
	switch n, inherited := strings.CutPrefix(p.Records, "fd:"); {
	case p.Records == "":
	case p.Records == "-":
		l.records = a.ui.out
	case inherited:
		var fd uintptr
		if fd, err = parseFD(n); err != nil {
			break
		}
		if l.file = os.NewFile(fd, p.Records); l.file == nil {
			err = fmt.Errorf("%s was not inherited", p.Records)
			break
		}
		if _, err = l.file.Stat(); err != nil {
			err = fmt.Errorf("%s was not inherited: %w", p.Records, err)
		}
		l.records = l.file
	default:
		l.file, err = os.OpenFile(p.Records, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		l.records = l.file
	}
	if err != nil {
		return nil, fmt.Errorf("--records: %w", err)
	}
	if l.records != nil {
		l.records = queued(l.records)
	}
	return l, nil
}

func (l *gatewayLog) close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if q, ok := l.records.(*recordQueue); ok {
		if n := q.close(); n > 0 {
			l.log.Warn("records were not read, and are lost", slog.Int64("count", n))
		}
	}
	l.records = nil
	if l.file != nil {
		_ = l.file.Close() // each line was written when it came
	}
}

// recordLine is a gateway.Record as it is written.
type recordLine struct {
	At       time.Time `json:"at"`
	Took     float64   `json:"took"` // seconds
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Status   int       `json:"status"`
	Verdict  string    `json:"verdict"`
	Attempts int       `json:"attempts"`
	Resends  int       `json:"resends"`
	Deed     string    `json:"deed"`
	Gone     bool      `json:"gone"`
	Task     string    `json:"task,omitempty"`
	// Event tells of what is no request.
	Event string `json:"event,omitempty"`
}

// record tells of one request.
func (l *gatewayLog) record(server string, r gateway.Record) {
	l.write(recordLine{
		At: r.At, Took: r.Took.Seconds(), Method: r.Method, Path: r.Path, Status: r.Status, Verdict: r.Verdict,
		Attempts: r.Attempts, Resends: r.Resends, Deed: string(r.Deed), Gone: r.Gone, Task: r.Task,
	})
	level := slog.LevelDebug
	switch {
	case r.Verdict != "" || r.Deed == gateway.TurnedAway:
		level = slog.LevelWarn
	case r.Resends > 0 || r.Deed != "" && r.Deed != gateway.Merged:
		level = slog.LevelInfo
	}
	ctx := context.Background()
	if !l.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("upstream", server), slog.String("request", r.Method+" "+r.Path), slog.Int("status", r.Status),
		rounded("took", r.Took), slog.Int("attempts", r.Attempts), slog.Int("resends", r.Resends),
	}
	if r.Verdict != "" {
		attrs = append(attrs, slog.String("verdict", r.Verdict))
	}
	if r.Deed != "" {
		attrs = append(attrs, slog.String("deed", string(r.Deed)))
	}
	if r.Gone {
		attrs = append(attrs, slog.Bool("gone", true))
	}
	l.log.LogAttrs(ctx, level, "request", attrs...)
}

// write writes a line, at once.
func (l *gatewayLog) write(r recordLine) {
	line, err := json.Marshal(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.records == nil {
		return
	}
	if err == nil {
		_, err = l.records.Write(append(line, '\n'))
	}
	if err != nil && !l.failed {
		l.failed = true
		l.log.Warn("records are missing", slog.Any("cause", err))
	}
}
