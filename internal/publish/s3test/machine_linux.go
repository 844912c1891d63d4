package s3test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

var diesWithUs = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

// listening is the TCP port on which the process listens, 0 while there is none.
func listening(pid int) int {
	sockets := map[string]bool{}
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(fds)
	for _, e := range entries {
		link, _ := os.Readlink(filepath.Join(fds, e.Name()))
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			sockets[strings.TrimSuffix(inode, "]")] = true
		}
	}
	table, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	for line := range strings.Lines(string(table)) {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
		f := strings.Fields(line)
		const listen = "0A"
		if len(f) < 10 || f[3] != listen || !sockets[f[9]] {
			continue
		}
		_, port, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseInt(port, 16, 32); err == nil {
			return int(n)
		}
	}
	return 0
}
