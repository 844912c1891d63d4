package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ListenError says why nobody can be answered at an address.
type ListenError struct {
	Address string
	Err     error
}

func (e *ListenError) Error() string {
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return fmt.Sprintf("%s is taken: another process listens there", e.Address)
	case errors.Is(e.Err, syscall.EACCES):
		return fmt.Sprintf("this user may not listen on %s", e.Address)
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("%s is not an address of this machine", e.Address)
	}
	return fmt.Sprintf("listen on %s: %v", e.Address, e.Err)
}

func (e *ListenError) Unwrap() error { return e.Err }

// ErrBadAddress is the cause of a ListenError for a text that is no address.
var ErrBadAddress = errors.New("write a host and a port, as in 127.0.0.1:8080")

// CheckAddress gives the address that a text means: a host and a port. Without
// a host it is the loopback one, since whoever means all of the machine's
// addresses can write so.
func CheckAddress(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", &ListenError{text, ErrBadAddress}
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", &ListenError{text, ErrBadAddress}
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, " /") {
		return "", &ListenError{text, ErrBadAddress}
	}
	return net.JoinHostPort(host, port), nil
}

// listenPublic binds an address for anyone. It comes before anything is
// changed; that the folder has an owner already says more than that its port is
// taken.
func listenPublic(address, data string) (net.Listener, error) {
	address, err := CheckAddress(address)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		if who, owned := owner(data); owned {
			return nil, &OwnedError{data, who}
		}
		return nil, &ListenError{address, err}
	}
	return listener, nil
}

// owner tells who owns a data folder, if anybody does.
func owner(data string) (who string, owned bool) {
	file, err := os.Open(lockPath(data))
	if err != nil {
		return "", false
	}
	defer file.Close() //nolint:errcheck // it was only asked
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return "", false
	}
	text, err := os.ReadFile(file.Name())
	return strings.TrimSpace(string(text)), err == nil
}
