package proc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// KeeperStatus is what somebody who looks on sees of a keeper.
type KeeperStatus struct {
	ID  string
	PID int   // 0: it did not say
	RSS int64 // bytes; 0: not known
	Err error // why it does not answer
}

// Keepers looks at the living keepers of a data folder, oldest first, and asks
// each whether it is well. It changes nothing, so that anybody may look on.
func Keepers(ctx context.Context, dataDir string) ([]KeeperStatus, error) {
	dir := filepath.Join(dataDir, "keeper")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for keepers: %w", err)
	}
	var list []KeeperStatus
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if !entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		alive, err := keeperAlive(path)
		if err != nil {
			return nil, fmt.Errorf("look for keepers: %w", err)
		}
		if !alive {
			continue
		}
		status := KeeperStatus{ID: entry.Name()}
		status.PID, status.Err = greetKeeper(ctx, path)
		if status.PID > 0 {
			status.RSS = residentSize(status.PID)
		}
		list = append(list, status)
	}
	return list, nil
}

// greetKeeper says hello to the keeper whose folder is path, and asks for no
// more.
func greetKeeper(ctx context.Context, path string) (pid int, err error) {
	conn, err := dialKeeper(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	deadline, bounded := ctx.Deadline()
	if !bounded {
		deadline = time.Now().Add(helloTimeout)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	reader := bufio.NewReader(conn)
	seq := int64(0)
	hello, err := greeting(func(m message) (message, error) {
		seq++
		m.Seq = seq
		frame, err := encode(m)
		if err != nil {
			return message{}, err
		}
		if _, err := conn.Write(frame); err != nil {
			return message{}, err
		}
		frame, err = readFrame(reader, maxFrame)
		if err != nil {
			return message{}, fmt.Errorf("read its answer: %w", err)
		}
		var answer message
		if err := json.Unmarshal(frame, &answer); err != nil {
			return message{}, err
		}
		return answer, answer.refusal()
	})
	return hello.PID, err
}

// peakSize is how much memory this process has had at most, in bytes; 0: not known.
func peakSize() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "\nVmHWM:")
	var kib int64
	_, _ = fmt.Sscan(rest, &kib)
	return kib << 10
}

// residentSize is how much memory a process has, in bytes; 0 when it is gone.
func residentSize(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
