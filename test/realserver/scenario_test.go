//go:build linux && realserver

package realserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adamant-go/adamant/test/realserver/faultproxy"
)

// scenario is something that befalls a run, and is then told by it.
type scenario struct {
	name string // what is done, and at which moment
	long bool   // it takes more than half a minute, and is played with OUTAGES=all only
	play func(t *testing.T, st *stage)
}

// stage is where a scenario is played: the server, what stands between it and the
// program, and the program's files.
type stage struct {
	*Server
	proxy *faultproxy.Proxy // before the server
	home  string            // the program's
	file  string            // which plans write to

	name   string
	before []string       // the tasks that there were
	writes bool           // the plan writes to the file
	over   chan time.Time // gets when the record said that it had ended; nil: its last line tells
	rows   *[]row
}

// row is what the user of one run saw, and what really happened.
type row struct {
	scene, ran, after string
	ended
}

// perform plays scenarios one after another, one for each share of what OUTAGES says,
// and prints what was seen; to the file that SAW names too.
func perform(t *testing.T, s *Server, all []scenario, share int) {
	if every, n, rng := choice(t); !every {
		all = slices.DeleteFunc(all, func(sc scenario) bool { return sc.long })
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:min(n/share, len(all))]
	}
	var rows []row
	for _, sc := range all {
		t.Run(strings.ReplaceAll(sc.name, " ", "-"), func(t *testing.T) {
			p, err := faultproxy.Listen(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			s.loaded(t)
			s.clear(t)
			dir := t.TempDir()
			st := &stage{Server: s, proxy: p, home: dir, file: filepath.Join(dir, "lines"), name: sc.name, rows: &rows}
			for _, task := range s.tasks(t) {
				st.before = append(st.before, task.ID)
			}
			sc.play(t, st)
		})
	}
	if len(rows) == 0 {
		return
	}
	s.clear(t)
	text := told(rows)
	fmt.Fprintln(os.Stdout, text)
	if path := os.Getenv("SAW"); path != "" {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString("## " + t.Name() + "\n" + text)
			f.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// told is rows as a table, and below it what was printed, as it was.
func told(rows []row) string {
	var table, verbatim strings.Builder
	table.WriteString("\n| what happened | the plan ran | exit | took | after the plan's end |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&table, "| %s | %s | %d | %.1f s | %s |\n", r.scene, r.ran, r.exit, r.took.Seconds(), r.after)
		args := slices.Clone(r.args[1:])
		if i := slices.Index(args, "-c"); i >= 0 {
			args[i+1] = "client.yaml"
		}
		if i := slices.Index(args, "-h"); i >= 0 {
			args = slices.Delete(args, i, i+2)
		}
		fmt.Fprintf(&verbatim, "\n%s: exit %d\n\n    $ %s %s\n", r.scene, r.exit, filepath.Base(r.args[0]), strings.Join(args, " "))
		for _, out := range []string{r.stdout, r.stderr} {
			for line := range strings.Lines(out) {
				verbatim.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
			}
		}
	}
	return table.String() + verbatim.String()
}

// program is a program under test while it runs.
type program struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	begin, end     time.Time
	gone           chan struct{} // closed when it has ended
}

// start starts a program with the stage's home directory.
func (st *stage) start(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.CommandContext(t.Context(), args[0], args[1:]...), gone: make(chan struct{})}
	p.cmd.Env = homed(st.home)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = time.Second
	p.begin = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its state tells
		p.end = time.Now()
		close(p.gone)
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends it at once, with SIGKILL.
func (p *program) kill() {
	_ = p.cmd.Process.Kill() // fails if it has ended
	<-p.gone
}

// wait waits for its end, and kills it when patience is over.
func (p *program) wait(patience time.Duration) ended {
	select {
	case <-p.gone:
	case <-time.After(patience):
		p.kill()
	}
	return ended{p.cmd.Args, p.cmd.ProcessState.ExitCode(), p.end.Sub(p.begin), p.stdout.String(), p.stderr.String()}
}

// program starts our program; a configuration of "" is none.
func (st *stage) program(t *testing.T, config string, words ...string) *program {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{bin, "-h", st.proxy.URL()}
	if config != "" {
		args = append(args, "-c", config)
	}
	return st.start(t, append(args, words...)...)
}

// run starts our program to run a plan, with a broker that it is told of if there is
// one.
func (st *stage) run(t *testing.T, broker string, p plan) *program {
	t.Helper()
	return st.program(t, st.config(t, broker, "guest"), "run", "-i", "cm12345-1", p.name, p.json())
}

// config writes a configuration that names a broker, if there is one.
func (st *stage) config(t *testing.T, broker, passcode string) string {
	t.Helper()
	if broker == "" {
		return ""
	}
	path := filepath.Join(st.home, "client.yaml")
	text := fmt.Sprintf("stomp:\n  enabled: true\n  url: tcp://%s/\n  auth:\n    username: guest\n    password: %s\n", broker, passcode)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// quiet is a plan that writes a line as it begins, and another as it ends.
func (st *stage) quiet(seconds float64) plan {
	st.writes = true
	return plan{"append_line", map[string]any{"path": st.file, "line": "begun", "seconds": seconds, "last": "ended"}}
}

// tasks is what the server has; without an answer none.
func (s *Server) tasks(t *testing.T) []listed {
	var all struct{ Tasks []listed }
	if _, answer := s.ask(t, http.MethodGet, "/tasks", ""); json.Unmarshal([]byte(answer), &all) != nil {
		return nil
	}
	return all.Tasks
}

// listed is what the tests read of a list of tasks.
type listed struct {
	ID      string `json:"task_id"`
	Pending bool   `json:"is_pending"`
	record
}

// ran is how often the plan has begun, as the plan itself or, if it does not write, the
// server says.
func (st *stage) ran(t *testing.T) (n int) {
	t.Helper()
	if st.writes {
		b, _ := os.ReadFile(st.file) // it is not there yet
		return strings.Count(string(b), "\n") - strings.Count(string(b), "ended\n")
	}
	for _, task := range st.tasks(t) {
		if !task.Pending && !slices.Contains(st.before, task.ID) {
			n++
		}
	}
	return n
}

// begun waits until the plan has begun. It may be called from any goroutine.
func (st *stage) begun(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); st.ran(t) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("the plan does not begin")
			return
		}
	}
}

// patience is how long a program may take that is not held to anything yet.
const patience = 4 * time.Minute

// from receives what a moment of a scenario brings, if it comes.
func from[T any](t *testing.T, moment <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-moment:
	case <-time.After(patience):
		t.Fatal("the moment did not come")
	}
	return v
}

// watch has the end of the plan taken from its record, as it is read ten times a
// second, and not from its last line.
func (st *stage) watch(t *testing.T) {
	st.over = make(chan time.Time, 1)
	ctx := t.Context()
	go func() {
		for ctx.Err() == nil {
			for _, task := range st.tasks(t) {
				if task.Complete && !slices.Contains(st.before, task.ID) {
					st.over <- time.Now()
					return
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
}

// planEnd is when the plan ended; zero if it did not, or that is not known.
func (st *stage) planEnd(t *testing.T) time.Time {
	t.Helper()
	if st.over != nil {
		select {
		case end := <-st.over:
			return end
		case <-time.After(5 * time.Second):
			return time.Time{}
		}
	}
	b, _ := os.ReadFile(st.file) // it may not be there
	info, err := os.Stat(st.file)
	if err != nil || !strings.HasSuffix(string(b), "ended\n") {
		return time.Time{}
	}
	return info.ModTime()
}

// held is what a run is held to.
type held struct {
	exits []int         // one of them
	ran   []int         // how often the plan ran: one of them
	after time.Duration // from the plan's end to the program's, at most; 0: it does not matter
	says  string        // is on stderr
}

// once is what a run is held to by default: to end well, as if nothing had been.
func once() held { return held{exits: []int{0}, ran: []int{1}, after: 2 * time.Second} }

// judge waits for the end of a program and of all that it has asked for, notes what
// was seen, and holds it to what is wanted.
func (st *stage) judge(t *testing.T, p *program, want held) {
	t.Helper()
	e := p.wait(patience)
	st.settle(t)
	r := row{scene: st.name, ran: fmt.Sprintf("%d x", st.ran(t)), after: "-", ended: e}
	r.args = slices.Clone(e.args)
	for i, arg := range r.args {
		r.args[i] = strings.ReplaceAll(arg, st.file, "FILE")
	}
	var after time.Duration
	if end := st.planEnd(t); !end.IsZero() {
		after = p.end.Sub(end)
		r.after = fmt.Sprintf("%.2f s", after.Seconds())
	}
	*st.rows = append(*st.rows, r)
	wrong := ""
	switch ran := st.ran(t); {
	case !slices.Contains(want.exits, e.exit):
		wrong = fmt.Sprintf("exit %d, not one of %v", e.exit, want.exits)
	case !slices.Contains(want.ran, ran):
		wrong = fmt.Sprintf("the plan ran %d times", ran)
	case e.exit == 0 && ran != 1, (e.exit == 5 || e.exit == 7 || e.exit == 130) && ran != 0:
		wrong = fmt.Sprintf("exit %d, and the plan ran %d times", e.exit, ran)
	case want.after > 0 && after > want.after:
		wrong = fmt.Sprintf("it ended %v after the plan", after)
	case !strings.Contains(e.stderr, want.says):
		wrong = fmt.Sprintf("stderr lacks %q", want.says)
	}
	if wrong != "" {
		t.Errorf("%s\n%v\nrequests: %s", wrong, e, describe(st.proxy))
	}
}
