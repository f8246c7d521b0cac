package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// Place is a directory to keep a journal in.
type Place struct {
	Dir string
	// Why says why it is that one, for a user who asks.
	Why string
	// Usual tells that it is the one in the home directory, where a user would look.
	Usual bool
}

// FindPlace chooses the directory: $XDG_STATE_HOME/adamant, or
// ~/.local/state/adamant if that is not set to an absolute path, as the XDG
// specification has it. If it lies on a network file system, where neither locks
// nor shared memory can be relied on, or there is no home directory, it is
// /var/tmp/adamant-UID, which outlives a reboot and belongs to one machine.
//
// Without $HOME the user database is asked, so that a service and a shell of one
// user find the same journal. Nothing is made. An error has a Kind.
func FindPlace(getenv func(string) string) (Place, error) {
	return finder{getenv: getenv, account: accountHome, network: networkFS}.find()
}

// finder is what a place depends on.
type finder struct {
	getenv func(string) string
	// account returns the home directory that the user database has.
	account func() string
	// network returns the name of the network file system that a directory lies
	// on, or will when it is made; "" if it is a local one.
	network func(dir string) (string, error)
}

func (f finder) find() (Place, error) {
	dir, why, usual := f.state()
	if dir != "" {
		name, err := f.network(dir)
		if err != nil {
			return Place{}, fault(dir, err)
		}
		if name == "" {
			return Place{Dir: dir, Why: why, Usual: usual}, nil
		}
		why = fmt.Sprintf("%s is on a network file system (%s)", dir, name)
	}
	// Not os.TempDir: what $TMPDIR names may be gone tomorrow.
	const varTmp = "/var/tmp"
	dir = filepath.Join(varTmp, "adamant-"+strconv.Itoa(os.Geteuid()))
	name, err := f.network(varTmp)
	if err != nil {
		return Place{}, fault(varTmp, err)
	}
	if name != "" {
		return Place{}, &Error{
			Kind: NoPlace, Path: dir,
			Err: fmt.Errorf("%s, and so is %s (%s); set XDG_STATE_HOME to a directory on a local disk", why, varTmp, name),
		}
	}
	return Place{Dir: dir, Why: why}, nil
}

// state returns the directory that the XDG specification names, or "".
func (f finder) state() (dir, why string, usual bool) {
	if d := f.getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "adamant"), "XDG_STATE_HOME is set", false
	}
	if d := f.getenv("HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, ".local", "state", "adamant"), "it is in the home directory", true
	}
	if d := f.account(); filepath.IsAbs(d) {
		return filepath.Join(d, ".local", "state", "adamant"), "HOME is not set; it is in the account's home directory", false
	}
	return "", "there is no home directory", false
}

func accountHome() string {
	u, err := user.Current()
	if err != nil {
		return "" // a user id without an account, as containers have them
	}
	if _, err := os.Stat(u.HomeDir); err != nil {
		return "" // such as /nonexistent
	}
	return u.HomeDir
}

// makeDir makes a directory and those above it, for this user alone, and makes
// sure that they outlive a loss of power.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// syncDir makes durable which files a directory has.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// checkDir refuses a directory that others can write or read, or can put another
// one in the place of. Only then can what is in it be trusted.
func checkDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fault(dir, err)
	}
	if !info.IsDir() {
		return &Error{Kind: Unsafe, Path: dir, Err: errors.New("it is not a directory (links are not followed)")}
	}
	if err := checkOwner(dir, info); err != nil {
		return err
	}
	// Links above are the user's own business, but what they lead to is not.
	above, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return fault(dir, err)
	}
	for ; ; above = filepath.Dir(above) {
		info, err := os.Lstat(above)
		if err != nil {
			return fault(above, err)
		}
		if m := info.Mode(); m.Perm()&0o002 != 0 && m&fs.ModeSticky == 0 {
			return &Error{Kind: Unsafe, Path: dir, Err: fmt.Errorf("everybody can write to %s", above)}
		}
		if above == filepath.Dir(above) {
			return nil
		}
	}
}

// checkFile refuses a file that is not this user's alone.
func checkFile(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return &Error{Kind: Unsafe, Path: path, Err: errors.New("it is not a regular file (links are not followed)")}
	}
	return checkOwner(path, info)
}

func checkOwner(path string, info fs.FileInfo) error {
	if uid := ownerOf(info); uid != os.Geteuid() {
		return &Error{Kind: Unsafe, Path: path, Err: fmt.Errorf("it belongs to user %d, not to %d", uid, os.Geteuid())}
	}
	if info.Mode().Perm()&0o077 != 0 {
		return &Error{Kind: Unsafe, Path: path, Err: fmt.Errorf("others have access (%v): chmod go= %s", info.Mode(), path)}
	}
	return nil
}
