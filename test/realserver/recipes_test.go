//go:build linux && realserver

package realserver

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// recipe reads a file of the recipes, with some of its words put in others' place. Each
// must be there.
func recipe(t *testing.T, name string, instead ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../recipes", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(instead); i += 2 {
		if !strings.Contains(text, instead[i]) {
			t.Errorf("%s lacks %q", name, instead[i])
		}
		text = strings.ReplaceAll(text, instead[i], instead[i+1])
	}
	return text
}

// write writes a file for others to read.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRecipeConfigurations has the gateway check the configurations of the recipes.
func TestRecipeConfigurations(t *testing.T) {
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	manifest := recipe(t, "kubernetes/sidecar.yaml")
	_, inner, _ := strings.Cut(manifest, "  gateway.yaml: |\n")
	inner, _, found := strings.Cut(inner, "\n---\n")
	if !found {
		t.Fatal("the manifest holds no configuration")
	}
	t.Setenv("STOMP_USER", "guest")
	t.Setenv("STOMP_PASSWORD", "guest")
	for name, text := range map[string]string{
		"gateway.yaml":         recipe(t, "gateway.yaml"),
		"systemd/gateway.yaml": recipe(t, "systemd/gateway.yaml"),
		"kubernetes":           regexp.MustCompile(`(?m)^ {4}`).ReplaceAllString(inner, ""),
	} {
		path := write(t, filepath.Join(t.TempDir(), "gateway.yaml"), text)
		if e := execute(t, time.Minute, []string{bin, "gateway", "--config", path, "--check"}); e.exit != 0 || e.stderr != "" {
			t.Errorf("%s: %v", name, e)
		}
	}
}

// TestRecipeSystemd has systemd check the units, and starts the gateway as they say: on
// sockets that are there already, with a socket to which it tells what it does, and with
// a directory of state that is a link, as DynamicUser makes it.
func TestRecipeSystemd(t *testing.T) {
	s := theServer(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	service := recipe(t, "systemd/adamant-gateway.service", "/usr/local/bin/adamant", bin)
	units := []string{
		write(t, filepath.Join(dir, "adamant-gateway.service"), service),
		write(t, filepath.Join(dir, "adamant-gateway.socket"), recipe(t, "systemd/adamant-gateway.socket")),
	}
	if verify, err := exec.LookPath("systemd-analyze"); err == nil {
		e := execute(t, time.Minute, append([]string{verify, "verify", "--man=no"}, units...))
		if e.exit != 0 || strings.Contains(e.stderr, "adamant") {
			t.Errorf("systemd-analyze: %v", e)
		}
	} else {
		t.Log("systemd-analyze is not there: the units were not checked by systemd")
	}
	start := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(service)
	below := regexp.MustCompile(`(?m)^Environment=XDG_STATE_HOME=/var/lib/(.*)$`).FindStringSubmatch(service)
	if start == nil || below == nil || !strings.Contains(service, "\nType=notify\n") {
		t.Fatalf("the unit is\n%s", service)
	}

	l := lay(t, s, "nothing")
	config := write(t, filepath.Join(dir, "gateway.yaml"), recipe(t, "systemd/gateway.yaml",
		"http://ixx-blueapi.diamond.ac.uk", l.proxy.URL(), "ixx-rabbitmq-daq.diamond.ac.uk:61613", l.relay.address, "127.0.0.1:9090", "127.0.0.1:0"))
	address, socket := listen(t)
	stomp, stompSocket := listen(t)
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	state := filepath.Join(dir, "state")
	for _, d := range []string{state, filepath.Join(state, "private", "adamant")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("private/adamant", filepath.Join(state, "adamant")); err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(strings.ReplaceAll(start[1], "/etc/adamant/gateway.yaml", config))
	cmd := exec.Command(words[0], words[1:]...)
	log := new(safeBuffer)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{socket, stompSocket}
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"), "LISTEN_FDS=2", "WATCHDOG_USEC=400000",
		"XDG_STATE_HOME="+filepath.Join(state, below[1]), "STOMP_USER=guest", "STOMP_PASSWORD=guest", "HOME="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }() // if it is still there
	heard := func(word string) {
		t.Helper()
		for b := make([]byte, 4096); ; {
			_ = told.SetReadDeadline(time.Now().Add(20 * time.Second)) // a socket has deadlines
			n, err := told.Read(b)
			if err != nil {
				t.Fatalf("systemd is not told %s: %v\n%s", word, err, log)
			}
			if slices.Contains(strings.Split(string(b[:n]), "\n"), word) {
				return
			}
		}
	}
	heard("READY=1")
	l.url, l.stomp = "http://"+address, stomp
	file := filepath.Join(t.TempDir(), "lines")
	l.proxy.LoseAnswer(http.MethodPut, "/worker/task")
	what := call{Call: "run", Config: l.config(t, true), Plan: "append_line", Params: map[string]any{"path": file, "line": "x"}}
	if a := callers.do(t, s.Python, what, time.Minute); a.outcome() != "success" || lines(t, file) != 1 {
		t.Errorf("a caller was told %s, and the plan ran %d times\n%s", a.outcome(), lines(t, file), log)
	}
	if kept, err := os.ReadDir(filepath.Join(state, "private", "adamant", "adamant")); err != nil || len(kept) == 0 {
		t.Errorf("there is no journal in the directory of state: %v\n%s", err, log)
	}
	heard("WATCHDOG=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	heard("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log)
	}
}

// TestRecipeNginx puts nginx before the gateway: answers are lost behind it, and callers
// of all kinds see nothing.
func TestRecipeNginx(t *testing.T) {
	s := theServer(t)
	if _, err := script("need.sh", "nginx"); err != nil {
		t.Fatal(err)
	}
	s.clear(t)
	l := lay(t, s, "gateway")
	dir := t.TempDir()
	port := relayTo(t, s.STOMP) // a free one
	port.down()
	site := write(t, filepath.Join(dir, "site.conf"), recipe(t, "nginx.conf", "127.0.0.1:8000", strings.TrimPrefix(l.url, "http://"), "listen 8080", "listen "+port.address))
	config := write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(
		"daemon off;\nmaster_process off;\npid %[1]s/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\nclient_body_temp_path %[1]s/body;\nproxy_temp_path %[1]s/proxy;\nfastcgi_temp_path %[1]s/fastcgi;\nuwsgi_temp_path %[1]s/uwsgi;\nscgi_temp_path %[1]s/scgi;\ninclude %[2]s;\n}\n", dir, site))
	log := new(safeBuffer)
	cmd := exec.Command("nginx", "-p", dir, "-c", config, "-e", "stderr")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if nc, err := net.Dial("tcp", port.address); err == nil {
			nc.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nginx does not listen\n%s", log)
		}
	}
	l.url = "http://" + port.address
	for _, c := range realCallers() {
		if c.call == "" || c.looks {
			continue
		}
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			l.proxy.LoseAnswer(http.MethodPut, "/worker/task")
			l.proxy.Arm(faultproxy.Outage{Kind: faultproxy.Reset, For: time.Second, Request: 1, Method: http.MethodPost, Path: "/tasks"})
			if words := l.try(t, c); t.Failed() {
				t.Logf("%s\n%s", words, log)
			}
		})
	}
}
