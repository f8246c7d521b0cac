package main

import (
	"os"
	"path/filepath"
	"time"
)

// privateDir is a folder for this process alone.
type privateDir struct {
	path string
	lock *os.File
}

const (
	privatePrefix = "adamant-exec-"
	// orphanAge is how old a folder is that was surely locked, if its process lives.
	orphanAge = time.Minute
)

// makePrivateDir makes a folder that nobody else can read, and removes those of
// processes that were killed. It is in memory where the system has such a place.
func makePrivateDir() (d privateDir, err error) {
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir()} {
		if base == "" {
			continue
		}
		removeOrphans(base)
		if d.path, err = os.MkdirTemp(base, privatePrefix); err == nil {
			break
		}
	}
	if err != nil {
		return d, err
	}
	if d.lock, err = os.OpenFile(filepath.Join(d.path, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err == nil {
		_, err = tryFileLock(d.lock)
	}
	if err != nil {
		d.remove()
	}
	return d, err
}

func (d privateDir) remove() {
	_ = os.RemoveAll(d.path)
	if d.lock != nil {
		_ = d.lock.Close()
	}
}

// removeOrphans removes the folders whose processes have died. Those of other users
// cannot be opened.
func removeOrphans(base string) {
	found, err := filepath.Glob(filepath.Join(base, privatePrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range found {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || !isOwn(info) || time.Since(info.ModTime()) < orphanAge {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if free, err := tryFileLock(lock); err == nil && free {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}
