package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/adamant-go/adamant/internal/config"
)

// isNetwork reports whether an address is HOST:PORT.
func isNetwork(addr string) bool {
	return !strings.HasPrefix(addr, "fd:") && !strings.HasPrefix(addr, "unix:")
}

// withHost puts the loopback address where no host is given, for net.Listen would take
// that for all addresses of the machine.
func withHost(addr string) string {
	if strings.HasPrefix(addr, ":") {
		return "127.0.0.1" + addr
	}
	return addr
}

// checkListenAddress refuses what is no address to listen at.
func checkListenAddress(addr string, admin bool) error {
	if n, ok := strings.CutPrefix(addr, "fd:"); ok {
		_, err := parseFD(n)
		return err
	}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		switch {
		case !admin:
			return errors.New("callers come by TCP; only the admin listener may be a unix: socket")
		case !filepath.IsAbs(path):
			return fmt.Errorf("unix:%s is not an absolute path", path)
		}
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not an address such as %s", addr, defaultGatewayListen)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has no port that is a number", addr)
	}
	return nil
}

func parseFD(n string) (uintptr, error) {
	fd, err := strconv.ParseUint(n, 10, 16)
	if err != nil || fd < 3 {
		return 0, fmt.Errorf("fd:%s is not an inherited descriptor; the first is fd:3", n)
	}
	return uintptr(fd), nil
}

// openListener opens a listener. One that was inherited is held to the same rule: that
// others can reach it must be meant.
func openListener(ctx context.Context, l config.Listener, expose bool, limit int) (net.Listener, error) {
	opened, err := listenAt(ctx, l.Address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := opened.Addr().(*net.TCPAddr); ok && !expose {
		if err := checkExposed(tcp.String()); err != nil {
			_ = opened.Close()
			return nil, err
		}
	}
	// Who comes beyond the limit waits to be taken: to be cut off would look to a caller
	// as if its request had been lost.
	return netutil.LimitListener(opened, limit), nil
}

func listenAt(ctx context.Context, addr string) (net.Listener, error) {
	if n, ok := strings.CutPrefix(addr, "fd:"); ok {
		return inherit(n)
	}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return listenUnix(ctx, path)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", withHost(addr))
}

// inherit makes a listener of a socket that was inherited.
func inherit(n string) (net.Listener, error) {
	fd, err := parseFD(n)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(fd, "fd:"+n)
	if f == nil {
		return nil, fmt.Errorf("fd:%s was not inherited", n)
	}
	defer func() { _ = f.Close() }() // the listener has its own
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("fd:%s is not a socket that is listened at: %w", n, err)
	}
	return l, nil
}

// unixListener removes its file when it is closed.
type unixListener struct {
	net.Listener
	path string
}

func (l unixListener) Close() error {
	_ = os.Remove(l.path)
	return l.Listener.Close()
}

// listenUnix listens at a path, for this user alone: the socket gets its name when its
// mode is right. One that nobody listens at any more is replaced.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("unix:%s is there already, and is no socket", path)
	}
	dial, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if c, err := new(net.Dialer).DialContext(dial, "unix", path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("unix:%s: somebody listens there already", path)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".adamant")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	made := filepath.Join(dir, "s")
	l, err := new(net.ListenConfig).Listen(ctx, "unix", made)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err = os.Chmod(made, 0o600); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return unixListener{l, path}, nil
}

// addressText is the address of a listener as it is printed.
func addressText(l config.Listener, opened net.Listener) string {
	if opened.Addr().Network() == "unix" && !isNetwork(l.Address) && !strings.HasPrefix(l.Address, "fd:") {
		return l.Address
	}
	return opened.Addr().String()
}
