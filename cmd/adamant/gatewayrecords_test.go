package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/gateway"
)

// TestRecordsNobodyReads: who is to read the records and does not keeps no caller waiting;
// what there is no room for is lost, which is said, and the rest is there in order.
func TestRecordsNobodyReads(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var said bytes.Buffer
	l := &gatewayLog{log: slog.New(slog.NewTextHandler(&said, nil)), records: queued(w), file: w}
	const all = 2 * maxQueued
	written := make(chan struct{})
	go func() {
		defer close(written)
		for n := range all {
			l.record("", gateway.Record{Status: n, At: time.Unix(0, 0)})
		}
	}()
	select {
	case <-written:
	case <-time.After(20 * time.Second):
		t.Fatal("a caller waits for who reads the records")
	}
	read := make(chan int)
	go func() { // it comes to its senses
		n := 0
		for lines := bufio.NewScanner(r); lines.Scan(); n++ {
			var line recordLine
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Status != n {
				t.Errorf("line %d is %s", n, lines.Text())
				break
			}
		}
		read <- n
	}()
	l.close()
	n := <-read
	if n < maxQueued || n >= all {
		t.Errorf("%d lines", n)
	}
	if got := said.String(); strings.Count(got, "records are missing") != 1 || !strings.Contains(got, "are lost\" count="+strconv.Itoa(all-n)+"\n") {
		t.Errorf("with %d lines it said\n%s", n, got)
	}
	l.record("", gateway.Record{}) // a caller who was cut off
}

// TestRecordsNobodyEverReads: a gateway ends all the same.
func TestRecordsNobodyEverReads(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var said bytes.Buffer
	l := &gatewayLog{log: slog.New(slog.NewTextHandler(&said, nil)), records: queued(w), file: w}
	for range maxQueued {
		l.record("", gateway.Record{})
	}
	ended := make(chan struct{})
	go func() {
		l.close()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for who reads the records")
	}
	if !strings.Contains(said.String(), "are lost") {
		t.Errorf("it said\n%s", &said)
	}
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
