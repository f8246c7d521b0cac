//go:build linux || darwin

package journal

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// supported tells that there are journals on this system.
const supported = true

// networkFS implements finder.network.
func networkFS(dir string) (string, error) {
	for {
		var st syscall.Statfs_t
		err := syscall.Statfs(dir, &st)
		switch {
		case err == nil:
			return fileSystemName(&st), nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir):
			dir = filepath.Dir(dir)
		default:
			return "", &fs.PathError{Op: "statfs", Path: dir, Err: err}
		}
	}
}

// ownerOf returns the id of the user that a file belongs to.
func ownerOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// openLocks opens the file of the owners' locks, and makes it if need be.
func openLocks(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, &Error{Kind: Unsafe, Path: path, Err: errors.New("it is a link")}
	}
	return f, err
}

// tryLock locks one byte of f, and reports whether it could. The lock goes with
// the last descriptor of this opening of the file, at the latest when the process
// ends, however it does.
func tryLock(f *os.File, at int64) (bool, error) {
	l := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: at, Len: 1}
	err := control(f, ofdSetLock, &l)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// locked reports whether another opening of the file has one byte of it locked.
// It does not touch the lock.
func locked(f *os.File, at int64) (bool, error) {
	l := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: at, Len: 1}
	err := control(f, ofdGetLock, &l)
	return err == nil && l.Type != syscall.F_UNLCK, err
}

func control(f *os.File, cmd int, l *syscall.Flock_t) error {
	for {
		err := syscall.FcntlFlock(f.Fd(), cmd, l)
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fcntl", err)
		}
	}
}
