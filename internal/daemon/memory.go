package daemon

import (
	"bufio"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// rest gives memory back before a long quiet. Reading many jobs leaves much
// behind; and of the program itself, of which a start touches a page here and
// there, the kernel has mapped some twenty megabytes: a quiet daemon uses a few of
// them, and what it needs later is still in the page cache.
func rest() {
	debug.FreeOSMemory()
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		return // nothing depends on it
	}
	defer file.Close() //nolint:errcheck // it was only read
	var begin, end uint64
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"): // 00400000-012eb000 r-xp 00000000 fe:01 4711 /usr/bin/belfry
			begin, end = 0, 0
			if strings.Contains(fields[1], "w") || fields[4] == "0" { // or it is no file's
				continue
			}
			from, to, _ := strings.Cut(fields[0], "-")
			begin, _ = strconv.ParseUint(from, 16, 64)
			end, _ = strconv.ParseUint(to, 16, 64)
		case len(fields) >= 2 && fields[0] == "Anonymous:" && fields[1] == "0" && begin < end:
			// It is what the file says: a dynamic linker has written nothing into it. The
			// call fails where memory is locked, and that is then meant.
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(begin), uintptr(end-begin), syscall.MADV_DONTNEED)
		}
	}
}
