package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/adamant-go/adamant/gateway"
)

// TestRecordsNobodyReads: who is to read the records and does not keeps no caller waiting;
// what there is no room for is lost, which is said, and the rest is there in order.
func TestRecordsNobodyReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		var said bytes.Buffer
		l := &gatewayLog{log: slog.New(slog.NewTextHandler(&said, nil)), records: queued(w)}
		const lost = 3
		for n := range 1 + maxQueued + lost { // one is being written
			l.record("", gateway.Record{Status: n, At: time.Unix(0, 0)})
			synctest.Wait()
		}
		read := make(chan int)
		go func() { // it comes to its senses
			n := 0
			for lines := bufio.NewScanner(r); n <= maxQueued && lines.Scan(); n++ {
				var line recordLine
				if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Status != n {
					t.Errorf("line %d is %s", n, lines.Text())
					break
				}
			}
			read <- n
		}()
		go l.close()
		if n := <-read; n != 1+maxQueued {
			t.Errorf("%d lines", n)
		}
		synctest.Wait()
		if got := said.String(); strings.Count(got, "records are missing") != 1 || !strings.Contains(got, fmt.Sprintf("are lost\" count=%d\n", lost)) {
			t.Errorf("it said\n%s", got)
		}
		l.record("", gateway.Record{}) // a caller who was cut off
	})
}

// TestRecordsNobodyEverReads: a gateway ends all the same.
func TestRecordsNobodyEverReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		defer r.Close()
		var said bytes.Buffer
		l := &gatewayLog{log: slog.New(slog.NewTextHandler(&said, nil)), records: queued(w)}
		for range 7 {
			l.record("", gateway.Record{})
		}
		begin := time.Now()
		l.close()
		if took := time.Since(begin); took != readLimit || !strings.Contains(said.String(), "are lost\" count=6\n") { // and the one that is being written
			t.Errorf("after %v it said\n%s", took, &said)
		}
	})
}

// TestRecordsInAFile: each is there at once.
func TestRecordsInAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "records")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	l := &gatewayLog{log: slog.New(slog.DiscardHandler), records: queued(f), file: f}
	defer l.close()
	l.record("", gateway.Record{Path: "/plans"})
	if b, err := os.ReadFile(path); err != nil || !bytes.Contains(b, []byte("/plans")) {
		t.Errorf("%s, %v", b, err)
	}
}
