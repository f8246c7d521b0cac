package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// diskChildren are those that need what other systems do not have.
func diskChildren() map[string]func([]string) error {
	return map[string]func([]string) error{"quota": childQuota, "mounts": childMounts, "reader": childReader}
}

// fill records until that fails, and returns how often it did not.
func fill(o *Owner) (n int, err error) {
	for n = 0; n < 10_000; n++ {
		if err := o.Record(context.Background(), step(Starting, "t"+strconv.Itoa(n))); err != nil {
			return n, err
		}
	}
	return n, errors.New("it never fails")
}

// childQuota writes until the system allows no larger file: quota DIR.
func childQuota(args []string) error {
	ctx := context.Background()
	signal.Ignore(syscall.SIGXFSZ)
	j, err := Open(ctx, args[0])
	if err != nil {
		return err
	}
	o, err := j.Begin(ctx, request("r"))
	if err != nil {
		return err
	}
	limit := syscall.Rlimit{Cur: 200_000, Max: syscall.RLIM_INFINITY & (1<<63 - 1)}
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = 200_000
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	n, err := fill(o)
	say(KindOf(err))
	_, err = j.Begin(ctx, request("s"))
	say(KindOf(err))
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := o.Record(ctx, end(Done)); err != nil {
		return err
	}
	say(n)
	return nil
}

func TestQuota(t *testing.T) {
	dir := newDir(t)
	out := strings.Split(output(t, child(t, "quota", dir)), "\n")
	if out[0] != Failed.String() || out[1] != Failed.String() {
		t.Errorf("the child says %q", out)
	}
	j := openIn(t, dir)
	checkIntegrity(t, j)
	if got := find(t, j, Query{}); strconv.Itoa(len(got.Entries)-1) != out[2] || got.End() == nil {
		t.Errorf("%d entries, but %s were recorded and an end", len(got.Entries), out[2])
	}
}

// childMounts tries a disk that is full and one that is read-only, on a file system
// of its own: mounts DIR.
func childMounts(args []string) error {
	ctx := context.Background()
	disk := args[0]
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=300k,mode=700"); err != nil {
		say("skip", err)
		return nil
	}
	dir := filepath.Join(disk, "adamant")
	ballast := filepath.Join(disk, "ballast")
	grow := func() error {
		f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		for page := make([]byte, 4096); err == nil; {
			_, err = f.Write(page)
		}
		return nil
	}

	// Full from the start: no half of a journal is left behind.
	if err := grow(); err != nil {
		return err
	}
	_, err := Open(ctx, dir)
	say("open", KindOf(err))
	if err := os.Truncate(ballast, 0); err != nil {
		return err
	}

	j, err := Open(ctx, dir)
	if err != nil {
		return err
	}
	o, err := j.Begin(ctx, request("r"))
	if err != nil {
		return err
	}
	if err := o.Record(ctx, step(Starting, "t")); err != nil {
		return err
	}
	if err := grow(); err != nil {
		return err
	}
	n, err := fill(o)
	say("record", KindOf(err))
	_, err = j.Begin(ctx, request("s"))
	say("begin", KindOf(err))
	// What is there can be read, and the disk can become free.
	runs, err := j.Runs(ctx, Query{})
	if err != nil {
		return err
	}
	say("kept", len(runs) == 1 && len(runs[0].Entries) == n+1)
	if err := os.Remove(ballast); err != nil {
		return err
	}
	if err := o.Record(ctx, end(Done)); err != nil {
		return err
	}
	o.Close()
	if o, err = j.Begin(ctx, request("s")); err != nil {
		return err
	}
	o.Close()
	if err := j.Close(); err != nil {
		return err
	}

	other := filepath.Join(disk, "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		return err
	}
	_, err = Open(ctx, dir)
	say("open", KindOf(err))
	_, err = Open(ctx, other)
	say("open", KindOf(err))
	_, err = Open(ctx, filepath.Join(other, "adamant"))
	say("open", KindOf(err))
	return nil
}

func TestFullAndReadOnlyDisk(t *testing.T) {
	out := inNamespace(t, child(t, "mounts", t.TempDir()), 0)
	if strings.HasPrefix(out, "skip") {
		t.Skip(out)
	}
	want := fmt.Sprintf("open %[1]v\nrecord %[1]v\nbegin %[1]v\nkept true\nopen %[2]v\nopen %[2]v\nopen %[2]v\n", Full, ReadOnly)
	if out != want {
		t.Errorf("the child says\n%s, want\n%s", out, want)
	}
}

// childReader opens a journal in a directory that cannot be written: reader DIR.
func childReader(args []string) error {
	_, err := Open(context.Background(), args[0])
	say(KindOf(err))
	_, err = Open(context.Background(), filepath.Join(args[0], "adamant"))
	say(KindOf(err))
	return nil
}

func TestReadOnlyDirectory(t *testing.T) {
	empty, used := newDir(t), newDir(t)
	if err := os.Mkdir(empty, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := openIn(t, used).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(used, 0o500); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{empty, used} {
		out := inNamespace(t, child(t, "reader", dir), 1000) // root heeds no modes
		if want := fmt.Sprintf("%v\n%v\n", ReadOnly, ReadOnly); out != want {
			t.Errorf("%s: the child says %q", dir, out)
		}
	}
}

// inNamespace runs a child that seems to be another user, for whom files are as for
// the one of the test, but without a user's or root's rights over the system; if it
// seems to be root, it can mount. It skips the test where that is not allowed.
func inNamespace(t *testing.T, cmd *exec.Cmd, uid int) string {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.Output()
	if _, ran := errors.AsType[*exec.ExitError](err); ran {
		t.Fatalf("child: %v; it said %q", err, out)
	}
	if err != nil {
		t.Skipf("no namespaces: %v", err)
	}
	return string(out)
}
