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
