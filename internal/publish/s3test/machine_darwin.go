package s3test

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

var diesWithUs *syscall.SysProcAttr // that cannot be had

// listening is the TCP port on which the process listens, 0 while there is none.
func listening(pid int) int {
	list, _ := exec.Command("lsof", "-nP", "-a", "-p", strconv.Itoa(pid), "-iTCP", "-sTCP:LISTEN", "-Fn").Output() // it fails while there is none
	for line := range strings.Lines(string(list)) {
		if at := strings.LastIndexByte(line, ':'); at >= 0 && line[0] == 'n' {
			port, _ := strconv.Atoi(strings.TrimSpace(line[at+1:])) // 0: "*"
			return port
		}
	}
	return 0
}
