package secrets

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// ReadPrivate reads a file that only its owner may read and write, who is this
// user or root. The error of another says what to type.
func ReadPrivate(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be a FIFO
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if err := private(path, info); err != nil {
		return nil, err
	}
	return io.ReadAll(file)
}

// CheckPrivate says what ReadPrivate would, of a file whose text is not needed.
func CheckPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return private(path, info)
}

func private(path string, info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", path)
	}
	mode := info.Mode().Perm()
	switch {
	case mode&0o022 != 0:
		return fmt.Errorf("%s can be written by others (mode %04o); chmod 600 %s", path, mode, path)
	case mode&0o077 != 0:
		return fmt.Errorf("%s can be read by others (mode %04o); chmod 600 %s", path, mode, path)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("it is not known whose file " + path + " is")
	}
	if me := os.Geteuid(); stat.Uid != 0 && int(stat.Uid) != me {
		return fmt.Errorf("%s belongs to user %d, not to the one that the job runs as (%d) nor to root; chown %d %s", path, stat.Uid, me, me, path)
	}
	return nil
}
