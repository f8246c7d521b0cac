package main

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
)

const (
	// maxQueued is how many records wait for who reads them, some 2 MB.
	maxQueued = 10_000
	// readLimit is how long a gateway that ends waits for who reads its records.
	readLimit = time.Second
)

// errNotRead is the error of a record for which there was no room.
var errNotRead = errors.New("they are not read fast enough")

// recordQueue is between callers and a reader of records that may stand still, as a pipe's
// can: nobody's answer waits for that.
type recordQueue struct {
	lines  chan []byte
	lost   atomic.Int64
	failed atomic.Pointer[error] // of the last write
	ended  chan struct{}
}

// queued returns a writer to w that does not wait, and w itself if nothing can make a write
// to that wait for long: a file's lines are there even if the gateway is killed.
func queued(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return w
		}
	}
	q := &recordQueue{lines: make(chan []byte, maxQueued), ended: make(chan struct{})}
	go func() {
		defer close(q.ended)
		for line := range q.lines {
			if _, err := w.Write(line); err != nil {
				q.failed.Store(&err)
			}
		}
	}()
	return q
}

// Write takes a line, which it keeps. The error may be that of an earlier one.
func (q *recordQueue) Write(line []byte) (int, error) {
	if err := q.failed.Load(); err != nil {
		return 0, *err
	}
	select {
	case q.lines <- line:
		return len(line), nil
	default:
		q.lost.Add(1)
		return 0, errNotRead
	}
}

// close writes what is left, unless that takes too long, and returns how many records got
// lost for want of room. Nothing may be written afterwards.
func (q *recordQueue) close() (lost int64) {
	close(q.lines)
	limit := time.NewTimer(readLimit)
	defer limit.Stop()
	select {
	case <-q.ended:
	case <-limit.C:
		lost = int64(len(q.lines))
	}
	return lost + q.lost.Load()
}
