package journal

import "syscall"

// Commands of fcntl(2), as on Linux (xnu's bsd/sys/fcntl.h).
const (
	ofdSetLock = 90 // F_OFD_SETLK
	ofdGetLock = 92 // F_OFD_GETLK
)

// fileSystemName names the file system of st if it is not a local one.
func fileSystemName(st *syscall.Statfs_t) string {
	const mntLocal = 0x1000 // MNT_LOCAL, sys/mount.h
	if st.Flags&mntLocal != 0 {
		return ""
	}
	return "not local"
}
