package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// caddyVersion is the one that is built.
const caddyVersion = "v2.11.9"

// contender is a way to the server.
type contender struct {
	name, addr string
	process    *os.Process // nil if there is nothing between
}

// cpu is the processor time that its process and the children of that have used.
func (c contender) cpu() time.Duration {
	if c.process == nil {
		return 0
	}
	total := ticks(c.process.Pid)
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", c.process.Pid))
	for child := range strings.FieldsSeq(string(children)) {
		pid, _ := strconv.Atoi(child)
		total += ticks(pid)
	}
	return time.Duration(total) * time.Second / 100 // USER_HZ is 100 on every Linux
}

// ticks is utime and stime of a process (proc(5)).
func ticks(pid int) (n int) {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	if fields := strings.Fields(rest); len(fields) > 12 {
		for _, f := range fields[11:13] {
			t, _ := strconv.Atoi(f)
			n += t
		}
	}
	return n
}

const nginxConf = `daemon off; worker_processes 1; pid DIR/nginx.pid; error_log DIR/nginx.log;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path DIR; proxy_temp_path DIR; fastcgi_temp_path DIR; uwsgi_temp_path DIR; scgi_temp_path DIR;
  upstream up { server UPSTREAM; keepalive 256; keepalive_requests 1000000000; }
  server {
    listen LISTEN backlog=4096;
    location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; }
  }
}
`

const haproxyConf = `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  http-reuse always
listen proxy
  bind LISTEN
  server up UPSTREAM pool-max-conn 512
`

const caddyConf = `{
  admin off
  auto_https off
  persist_config off
}
http://:PORT {
  bind 127.0.0.1
  reverse_proxy UPSTREAM {
    transport http {
      keepalive_idle_conns_per_host 256
    }
  }
}
`

// farm are the processes of a run.
type farm struct {
	dir   string
	procs []*exec.Cmd
}

// start starts a server and what is compared before it. end ends them.
func start(ctx context.Context, o options) (contenders []contender, end func(), err error) {
	f := &farm{}
	if f.dir, err = os.MkdirTemp("", "adamant-bench."); err != nil {
		return nil, func() {}, err
	}
	defer func() {
		if err != nil {
			f.end()
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return nil, f.end, err
	}
	upstream := free(ctx)
	if _, err = f.spawn(ctx, 0, upstream, self, "-role", "upstream", "-listen", upstream); err != nil {
		return nil, f.end, err
	}
	contenders = []contender{{name: "direct", addr: upstream}}
	add := func(name string, command func(conf, addr string) []string, conf string) {
		if err != nil || o.only != nil && !slices.Contains(o.only, name) {
			return
		}
		addr := free(ctx)
		file := filepath.Join(f.dir, name+".conf")
		_, port, _ := net.SplitHostPort(addr)
		conf = strings.NewReplacer("DIR", f.dir, "LISTEN", addr, "PORT", port, "UPSTREAM", upstream).Replace(conf)
		if err = os.WriteFile(file, []byte(conf), 0o600); err != nil {
			return
		}
		args := command(file, addr)
		if _, missing := exec.LookPath(args[0]); missing != nil {
			fmt.Fprintf(os.Stderr, "bench: %s is not installed\n", name)
			return
		}
		var p *os.Process
		if p, err = f.spawn(ctx, runtime.NumCPU()-1, addr, args...); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			return
		}
		contenders = append(contenders, contender{name, addr, p})
	}
	add("nginx", func(conf, _ string) []string {
		return []string{"nginx", "-c", conf, "-p", f.dir, "-e", filepath.Join(f.dir, "nginx.log")}
	}, nginxConf)
	add("haproxy", func(conf, _ string) []string { return []string{"haproxy", "-q", "-db", "-f", conf} }, haproxyConf)
	if o.caddy {
		caddy := filepath.Join(f.dir, "caddy")
		build := exec.CommandContext(ctx, "go", "install", "github.com/caddyserver/caddy/v2/cmd/caddy@"+caddyVersion)
		build.Env = append(os.Environ(), "GOBIN="+f.dir, "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, f.end, fmt.Errorf("building Caddy: %w\n%s", err, out)
		}
		add("caddy", func(conf, _ string) []string {
			return []string{caddy, "run", "--adapter", "caddyfile", "--config", conf}
		}, caddyConf)
	}
	add("adamant", func(_, addr string) []string {
		return []string{self, "-role", "gateway", "-listen", addr, "-upstream", upstream, "-profile", o.profile}
	}, "")
	if err == nil && runtime.NumCPU() > 1 { // the callers, which are threads of this process
		err = exec.CommandContext(ctx, "taskset", "-acp", "0", strconv.Itoa(os.Getpid())).Run()
	}
	return contenders, f.end, err
}

// spawn runs a process on one core, if there are several, and waits until it listens.
func (f *farm) spawn(ctx context.Context, core int, addr string, args ...string) (*os.Process, error) {
	if runtime.NumCPU() > 1 {
		args = append([]string{"taskset", "-c", strconv.Itoa(core)}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	if !slices.Contains(args, "caddyfile") { // Caddy tells at length what it does
		cmd.Stderr = os.Stderr
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	f.procs = append(f.procs, cmd)
	for range 500 {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return cmd.Process, conn.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.New("it does not listen")
}

func (f *farm) end() {
	for _, p := range f.procs {
		_ = p.Process.Signal(syscall.SIGINT)
	}
	for _, p := range f.procs {
		late := time.AfterFunc(5*time.Second, func() { _ = p.Process.Kill() })
		_ = p.Wait()
		late.Stop()
	}
	_ = os.RemoveAll(f.dir)
}

// free is an address that is free now.
func free(ctx context.Context) string {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // loopback
	}
	defer l.Close()
	return l.Addr().String()
}
