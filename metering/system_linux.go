package metering

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

const sharedMemory = "/dev/shm"

// datasync returns when the content of f is on the disk. The size does not
// change, so that no other metadata matters.
func datasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

// mapFile maps a whole file for as long as the process lives.
func mapFile(f *os.File, size int) ([]byte, error) {
	return syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}

const (
	canMap  = true
	canLock = true
)

// bootID changes whenever the machine starts; empty if that is not known.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Magic numbers of statfs(2).
const (
	magicTmpfs = 0x01021994
	magicRamfs = 0x858458f6
)

var networks = map[uint32]string{
	0x6969: "NFS", 0x517b: "SMB", 0xff534d42: "CIFS", 0xfe534d42: "SMB2", 0x01021997: "9P", 0x00c36400: "Ceph",
	0x5346414f: "AFS", 0x0bd00bd0: "Lustre", 0x47504653: "GPFS", 0x7461636f: "OCFS2", 0x01161970: "GFS2",
}

// inMemory reports whether a folder is in memory, and outlives the process.
func inMemory(folder string) bool {
	var fs syscall.Statfs_t
	if syscall.Statfs(folder, &fs) != nil {
		return false
	}
	m := uint32(fs.Type)
	return m == magicTmpfs || m == magicRamfs
}

// contained reports whether the process is in a container of its own, by the
// number that the kernel gives the first namespace of processes
// (PROC_PID_INIT_INO); if that is not known, that it is.
func contained() bool {
	ns, err := os.Readlink("/proc/self/ns/pid")
	return err != nil || ns != "pid:[4026531836]"
}

// local returns an error for a folder on a network file system: neither locks
// nor mapped files nor fdatasync mean there what they mean on a disk.
func local(folder string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(folder, &fs); err != nil {
		return err
	}
	if name := networks[uint32(fs.Type)]; name != "" {
		return fmt.Errorf("%s is on a network file system (%s); use a local disk", folder, name)
	}
	return nil
}

// lockFile takes f for as long as it is open, and reports whether it could.
func lockFile(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
