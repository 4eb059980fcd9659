package database_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Who opens a file again keeps the locks that this process has on it. They are
// all gone as soon as any descriptor of the file is closed, whoever opened it.
func TestLocksKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	open(t, config(path, 1))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	locked := func() bool {
		t.Helper()
		// The bytes that SQLite locks for readers, as any other holder sees them.
		const ofReaders, question = 1<<30 + 2, 36 // F_OFD_GETLK
		l := syscall.Flock_t{Type: syscall.F_WRLCK, Start: ofReaders, Len: 510}
		if err := syscall.FcntlFlock(f.Fd(), question, &l); err != nil {
			t.Fatal(err)
		}
		return l.Type != syscall.F_UNLCK
	}
	if !locked() {
		t.Fatal("an open file has no lock")
	}
	open(t, config(path, 1))
	if !locked() {
		t.Error("the locks went as the file was opened again")
	}
}
