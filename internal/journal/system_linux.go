package journal

import "syscall"

// Commands of fcntl(2) for locks that belong to an open file, not to a process,
// so that closing another file of the same name does not free them.
const (
	ofdGetLock = 36 // F_OFD_GETLK
	ofdSetLock = 37 // F_OFD_SETLK
)

// fileSystemName names the network file system of st, or returns "". The numbers
// are those of linux/magic.h, statfs(2) and the file systems' own sources.
//
// All of FUSE counts: sshfs and glusterfs cannot be told from local ones.
func fileSystemName(st *syscall.Statfs_t) string {
	switch uint32(st.Type) { // its type differs between processors
	case 0x6969:
		return "NFS"
	case 0x517b, 0xfe534d42, 0xff534d42:
		return "SMB"
	case 0x5346414f, 0x6b414653:
		return "AFS"
	case 0x73757245:
		return "Coda"
	case 0x0bd00bd0:
		return "Lustre"
	case 0x47504653:
		return "GPFS"
	case 0x00c36400:
		return "Ceph"
	case 0x65735546:
		return "FUSE"
	case 0x01021997:
		return "9P"
	case 0x19830326:
		return "BeeGFS"
	case 0xaad7aaea:
		return "PanFS"
	case 0x20030528:
		return "OrangeFS"
	case 0x7461636f:
		return "OCFS2"
	case 0x01161970:
		return "GFS2"
	case 0x786f4256:
		return "VirtualBox"
	}
	return ""
}
