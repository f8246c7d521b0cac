package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// request is what callers ask for, each in the same way again and again.
type request struct {
	name string
	text func(caller int) string
}

// requests are reads that are alike, which the gateway makes one of where they meet;
// reads that are not; and tasks submitted, which it reads whole before it passes them on.
func requests() []request {
	const head = " HTTP/1.1\r\nHost: blueapi.example\r\nUser-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
	const body = `{"name":"sleep","params":{"time":0.5},"instrument_session":"cm12345-1"}`
	return []request{
		{"GET /worker/state", func(int) string { return "GET /api/v1/worker/state" + head + "\r\n" }},
		{"GET /tasks/{id}", func(i int) string {
			return fmt.Sprintf("GET /api/v1/tasks/6f3a1c3e-0000-4000-8000-%012d%s\r\n", i, head)
		}},
		{"POST /tasks", func(int) string {
			return fmt.Sprintf("POST /api/v1/tasks%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body)
		}},
	}
}

// round has callers ask for as long as a round is, each over a connection of its own.
func (c contender) round(ctx context.Context, what request, callers int, long time.Duration) (figures, error) {
	conns := make([]net.Conn, callers)
	for i := range conns {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.addr)
		if err != nil {
			return figures{}, err
		}
		defer conn.Close()
		conns[i] = conn
	}
	took := make([][]time.Duration, callers)
	errs := make([]error, callers)
	before := c.cpu()
	begin := time.Now()
	var all sync.WaitGroup
	for i, conn := range conns {
		all.Go(func() { took[i], errs[i] = ask(conn, []byte(what.text(i)), begin.Add(long)) })
	}
	all.Wait()
	long = time.Since(begin)
	spent := c.cpu() - before
	if err := errors.Join(errs...); err != nil {
		return figures{}, err
	}
	sorted := slices.Concat(took...)
	slices.Sort(sorted)
	n := float64(len(sorted))
	return figures{
		rate: n / long.Seconds(), cpu: spent.Seconds() / n,
		p50: at(sorted, 0.5).Seconds(), p99: at(sorted, 0.99).Seconds(),
	}, nil
}

// ask asks until the end and returns how long each answer took.
func ask(conn net.Conn, text []byte, end time.Time) (took []time.Duration, err error) {
	in := bufio.NewReader(conn)
	for now := time.Now(); now.Before(end) || len(took) == 0; {
		if _, err := conn.Write(text); err != nil {
			return nil, err
		}
		status, err := answer(in)
		if err != nil {
			return nil, err
		}
		if status/100 != 2 {
			return nil, fmt.Errorf("status %d", status)
		}
		then := now
		now = time.Now()
		took = append(took, now.Sub(then))
	}
	return took, nil
}

// answer reads an answer of the server's that tells its length. net/http's client would
// cost more than the proxies.
func answer(in *bufio.Reader) (status int, err error) {
	length, served := -1, false
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if status == 0 {
			_, rest, _ := bytes.Cut(line, []byte(" "))
			status, err = strconv.Atoi(string(rest[:min(3, len(rest))]))
		} else if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("content-length")) {
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
		} else if bytes.EqualFold(name, []byte("x-blueapi-version")) {
			served = true
		}
		if err != nil {
			return 0, err
		}
	}
	if length < 0 || !served {
		return 0, errors.New("an answer without its length, or not the server's")
	}
	_, err = io.CopyN(io.Discard, in, int64(length))
	return status, err
}
