//go:build linux || darwin

package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestFindPlace(t *testing.T) {
	varTmp := fmt.Sprintf("/var/tmp/adamant-%d", os.Geteuid())
	for _, tt := range []struct {
		name      string
		xdg, home string
		account   string
		network   string // prefixes of directories on network file systems
		dir, why  string
		kind      Kind
	}{
		{name: "as XDG says", xdg: "/state", home: "/home/a", dir: "/state/adamant", why: "XDG_STATE_HOME"},
		{name: "at home", home: "/home/a", dir: "/home/a/.local/state/adamant", why: "home directory"},
		{name: "XDG is relative", xdg: "state", home: "/home/a", dir: "/home/a/.local/state/adamant", why: "home directory"},
		{name: "no HOME", account: "/home/b", dir: "/home/b/.local/state/adamant", why: "HOME is not set"},
		{name: "no home", dir: varTmp, why: "no home directory"},
		{name: "home on NFS", home: "/home/a", network: "/home", dir: varTmp, why: "/home/a/.local/state/adamant is on a network file system (NFS)"},
		{name: "XDG on NFS", xdg: "/dls/x", home: "/home/a", network: "/dls", dir: varTmp, why: "NFS"},
		{name: "home on NFS, XDG is not", xdg: "/local", home: "/home/a", network: "/home", dir: "/local/adamant", why: "XDG"},
		{name: "all on NFS", home: "/home/a", network: "/", kind: NoPlace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := finder{
				getenv: func(name string) string {
					return map[string]string{"XDG_STATE_HOME": tt.xdg, "HOME": tt.home}[name]
				},
				account: func() string { return tt.account },
				network: func(dir string) (string, error) {
					if tt.network != "" && strings.HasPrefix(dir, tt.network) {
						return "NFS", nil
					}
					return "", nil
				},
			}
			p, err := f.find()
			if KindOf(err) != tt.kind || p.Dir != tt.dir || !strings.Contains(p.Why, tt.why) ||
				p.Usual != (tt.dir == "/home/a/.local/state/adamant") {
				t.Errorf("%+v, %v", p, err)
			}
			if err != nil && !strings.Contains(err.Error(), "set XDG_STATE_HOME") {
				t.Errorf("%v does not say what to do", err)
			}
		})
	}
}

// The real thing, in so far as there is one: a home that does not exist yet is on
// the file system of what is above it.
func TestFindPlaceHere(t *testing.T) {
	home := filepath.Join(t.TempDir(), "not", "there")
	p, err := FindPlace(func(name string) string { return map[string]string{"HOME": home}[name] })
	if err != nil {
		t.Fatal(err)
	}
	if name, err := networkFS(t.TempDir()); err != nil {
		t.Fatal(err)
	} else if name != "" {
		t.Skipf("tests are run on %s", name)
	}
	if want := filepath.Join(home, ".local", "state", "adamant"); p.Dir != want {
		t.Errorf("%+v, want %s", p, want)
	}
	if _, err := os.Stat(home); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it was made already")
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "adamant")
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	j := openIn(t, dir)
	begin(t, j, request("r"))
	seen := 0
	err := filepath.WalkDir(filepath.Dir(filepath.Dir(dir)), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		seen++
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := 3 + 4; seen != want { // a, b, adamant; journal.db, its log and index, owners
		t.Errorf("%d files and directories, want %d", seen, want)
	}
}

func TestUnsafe(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, prepare := range map[string]func(dir string){
		"a directory that others can read": func(dir string) {
			must(os.Mkdir(dir, 0o700))
			must(os.Chmod(dir, 0o750))
		},
		"a link to a directory": func(dir string) {
			must(os.Mkdir(dir+"2", 0o700))
			must(os.Symlink(dir+"2", dir))
		},
		"a link to nowhere": func(dir string) { must(os.Symlink(dir+"2", dir)) },
		"a file":            func(dir string) { must(os.WriteFile(dir, nil, 0o600)) },
		"a directory above that all can write": func(dir string) {
			must(os.Chmod(filepath.Dir(dir), 0o777))
		},
		"somebody else's directory": func(dir string) {
			if os.Geteuid() != 0 {
				t.Skip("only root can make one")
			}
			must(os.Mkdir(dir, 0o700))
			must(os.Chown(dir, 65534, 65534))
		},
		"a link to a journal": func(dir string) {
			must(os.Mkdir(dir, 0o700))
			must(openIn(t, dir+"2").Close())
			must(os.Symlink(filepath.Join(dir+"2", "journal.db"), filepath.Join(dir, "journal.db")))
		},
		"a journal that others can read": func(dir string) {
			must(openIn(t, dir).Close())
			must(os.Chmod(filepath.Join(dir, "journal.db"), 0o604))
		},
		"somebody else's journal": func(dir string) {
			if os.Geteuid() != 0 {
				t.Skip("only root can make one")
			}
			must(openIn(t, dir).Close())
			must(os.Chown(filepath.Join(dir, "journal.db"), 65534, 65534))
		},
		"a pipe": func(dir string) {
			must(os.Mkdir(dir, 0o700))
			must(syscall.Mkfifo(filepath.Join(dir, "journal.db"), 0o600))
		},
		"a link to locks": func(dir string) {
			must(os.Mkdir(dir, 0o700))
			must(os.Symlink(dir, filepath.Join(dir, "owners")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			prepare(dir)
			j, err := Open(t.Context(), dir)
			if err == nil {
				defer j.Close()
				_, err = j.Begin(t.Context(), request("r"))
			}
			if KindOf(err) != Unsafe {
				t.Fatalf("error %v", err)
			}
			t.Log(err)
		})
	}
}

func TestLinksAboveAreFollowed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "home")); err != nil {
		t.Fatal(err)
	}
	openIn(t, filepath.Join(dir, "home", "adamant"))
}

func TestOpenExisting(t *testing.T) {
	dir := newDir(t)
	if _, err := OpenExisting(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a directory was made for nothing")
	}
	begin(t, openIn(t, dir), request("r"))
	j, err := OpenExisting(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	find(t, j, Query{})
}

func TestOddPaths(t *testing.T) {
	for _, name := range []string{"a b", "a?mode=memory", "a#b", "a%41b", "a&_txlock=x", "é"} {
		dir := filepath.Join(t.TempDir(), name)
		begin(t, openIn(t, dir), request("r"))
		if info, err := os.Stat(filepath.Join(dir, "journal.db")); err != nil || info.Size() == 0 {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := Open(t.Context(), "relative"); err == nil {
		t.Error("a relative path was taken")
	}
}
