package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// change is something that a process has done to a directory, or said.
type change struct {
	call string // make, link, unlink, write, truncate, sync, say
	path string
	to   string // of a link
	at   int64  // of a write; the size of a truncate
	data []byte // of a write or what was said
}

func (c change) String() string {
	return fmt.Sprintf("%s %s %s at %d, %d bytes", c.call, filepath.Base(c.path), filepath.Base(c.to), c.at, len(c.data))
}

// tracer follows a process by ptrace(2), as strace does, and writes down what it
// does to files below dir.
type tracer struct {
	dir     string
	pid     int
	memory  *os.File
	inside  map[int]*change // of threads that are in a system call; nil if it is of no interest
	threads map[int]bool
	changes []change
}

// trace runs this test binary as a child to its end, and returns what it did.
func trace(t *testing.T, dir, name string, args ...string) []change {
	t.Helper()
	runtime.LockOSThread() // a tracer is one thread
	defer runtime.UnlockOSThread()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p, err := os.StartProcess(exe, append([]string{exe}, args...), &os.ProcAttr{
		Env:   append(os.Environ(), childVar+"="+name),
		Files: []*os.File{null, null, os.Stderr},
		Sys:   &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		t.Skipf("processes cannot be traced here: %v", err)
	}
	defer p.Release()
	tr := &tracer{dir: dir, pid: p.Pid, inside: map[int]*change{}, threads: map[int]bool{}}
	if err := tr.follow(); err != nil {
		_ = p.Kill()
		t.Fatal(err)
	}
	return tr.changes
}

func (tr *tracer) follow() error {
	const (
		exitKill = 0x100000   // PTRACE_O_EXITKILL
		own      = 0x20000000 // __WNOTHREAD: children of this thread, not those of other tests
	)
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(tr.pid, &ws, syscall.WALL, nil); err != nil {
		return err
	}
	var err error
	if tr.memory, err = os.Open(fmt.Sprintf("/proc/%d/mem", tr.pid)); err != nil {
		return err
	}
	defer tr.memory.Close()
	options := syscall.PTRACE_O_TRACESYSGOOD | syscall.PTRACE_O_TRACECLONE | exitKill
	if err := syscall.PtraceSetOptions(tr.pid, options); err != nil {
		return err
	}
	tr.threads[tr.pid] = true
	for tid := tr.pid; ; {
		signal := 0
		switch stop := ws.StopSignal(); {
		case stop == syscall.SIGTRAP|0x80:
			if err := tr.call(tid); err != nil {
				return err
			}
		case stop == syscall.SIGTRAP, stop == syscall.SIGSTOP && !tr.threads[tid]: // ptrace's own
		default:
			signal = int(stop)
		}
		tr.threads[tid] = true
		if err := syscall.PtraceSyscall(tid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		for {
			tid, err = syscall.Wait4(-1, &ws, syscall.WALL|own, nil)
			if err != nil && !errors.Is(err, syscall.EINTR) {
				return err
			}
			if err == nil && ws.Stopped() {
				break
			}
			if err == nil && tid == tr.pid {
				if ws.ExitStatus() != 0 {
					return fmt.Errorf("the traced process ended with %d", ws.ExitStatus())
				}
				return nil
			}
		}
	}
}

// call is called when a thread begins a system call and when that returns.
func (tr *tracer) call(tid int) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		if errors.Is(err, syscall.ESRCH) {
			return nil
		}
		return err
	}
	c, returns := tr.inside[tid]
	if !returns {
		begun, err := tr.begun(&regs)
		tr.inside[tid] = begun
		return err
	}
	delete(tr.inside, tid)
	if c == nil || int64(regs.Rax) < 0 {
		return nil
	}
	if c.call == "write" || c.call == "say" {
		c.data = c.data[:regs.Rax]
	}
	tr.changes = append(tr.changes, *c)
	return nil
}

// begun reads the arguments of a system call; nil if it changes nothing.
func (tr *tracer) begun(r *syscall.PtraceRegs) (c *change, err error) {
	switch r.Orig_rax {
	case syscall.SYS_OPENAT:
		c = &change{call: "make", path: tr.text(r.Rsi)}
		if _, err := os.Lstat(c.path); err == nil || r.Rdx&syscall.O_CREAT == 0 {
			return nil, nil
		}
	case syscall.SYS_OPEN:
		c = &change{call: "make", path: tr.text(r.Rdi)}
		if _, err := os.Lstat(c.path); err == nil || r.Rsi&syscall.O_CREAT == 0 {
			return nil, nil
		}
	case syscall.SYS_MKDIRAT:
		c = &change{call: "make", path: tr.text(r.Rsi)}
	case syscall.SYS_LINKAT:
		c = &change{call: "link", path: tr.text(r.Rsi), to: tr.text(r.R10)}
	case syscall.SYS_UNLINKAT:
		c = &change{call: "unlink", path: tr.text(r.Rsi)}
	case syscall.SYS_UNLINK:
		c = &change{call: "unlink", path: tr.text(r.Rdi)}
	case syscall.SYS_FSYNC, syscall.SYS_FDATASYNC:
		c = &change{call: "sync", path: tr.file(r.Rdi)}
	case syscall.SYS_FTRUNCATE:
		c = &change{call: "truncate", path: tr.file(r.Rdi), at: int64(r.Rsi)}
	case syscall.SYS_PWRITE64:
		c = &change{call: "write", path: tr.file(r.Rdi), at: int64(r.R10), data: make([]byte, r.Rdx)}
	case syscall.SYS_WRITE:
		c = &change{call: "write", path: tr.file(r.Rdi), data: make([]byte, r.Rdx)}
		if r.Rdi == 1 {
			c.call, c.path = "say", tr.dir
		}
	case syscall.SYS_RENAME:
		c = &change{call: "other", path: tr.text(r.Rdi)}
	case syscall.SYS_RENAMEAT:
		c = &change{call: "other", path: tr.text(r.Rsi)}
	case syscall.SYS_PWRITEV, syscall.SYS_FALLOCATE:
		c = &change{call: "other", path: tr.file(r.Rdi)}
	default:
		return nil, nil
	}
	if c.path != tr.dir && !strings.HasPrefix(c.path, tr.dir+"/") {
		return nil, nil
	}
	if c.call == "other" || r.Orig_rax == syscall.SYS_WRITE && c.call == "write" {
		return nil, fmt.Errorf("system call %d of %s is not expected", r.Orig_rax, c.path)
	}
	if len(c.data) > 0 {
		_, err = tr.memory.ReadAt(c.data, int64(r.Rsi))
	}
	return c, err
}

// text reads a string of the process.
func (tr *tracer) text(at uint64) string {
	var b [4096]byte
	n, _ := tr.memory.ReadAt(b[:], int64(at)) // to the end of the memory there
	s, _, _ := bytes.Cut(b[:n], []byte{0})
	return string(s)
}

// file returns the path of an open file of the process.
func (tr *tracer) file(fd uint64) string {
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tr.pid, fd))
	return strings.TrimSuffix(path, " (deleted)")
}
