package project

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotFile says that what stands at a path is neither a file nor a pipe.
var ErrNotFile = errors.New("it is not a file")

// ReadFile reads a file, or what comes out of a pipe, as of <(crontab -l). One
// that nobody writes to is not waited for: it is an error.
func ReadFile(name string) ([]byte, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it has been read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	pipe := info.Mode()&fs.ModeNamedPipe != 0
	if !pipe && !info.IsDir() && !info.Mode().IsRegular() { // reading says what is wrong with a folder
		return nil, ErrNotFile
	}
	text, err := io.ReadAll(file)
	if err == nil && pipe && len(text) == 0 {
		err = errors.New("it is a pipe, and nobody writes to it")
	}
	return text, err
}
