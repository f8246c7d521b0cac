package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestListenUnix: a socket that was left behind is replaced, and nothing else is.
func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "left")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	again, err := listenUnix(t.Context(), left)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if info, err := os.Stat(left); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	file, link := filepath.Join(dir, "data"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir} {
		if l, err := listenUnix(t.Context(), path); err == nil {
			l.Close()
			t.Errorf("%s was replaced", path)
		}
	}
	if b, err := os.ReadFile(link); err != nil || string(b) != "precious" {
		t.Errorf("%q %v", b, err)
	}
}
