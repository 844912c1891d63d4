package proc

import "os"

// oomScore is the keeper's standing with the kernel's OOM killer.
//
// A child inherits its parent's, and a child that has begun may have children
// of its own before anybody can set it back. So the keeper takes its original
// standing for as long as it forks, and is spared the rest of the time.
type oomScore struct {
	file     *os.File // nil where it may not be lowered
	original []byte
}

func newOOMScore() oomScore {
	file, err := os.OpenFile("/proc/self/oom_score_adj", os.O_RDWR, 0)
	if err != nil {
		return oomScore{}
	}
	original := make([]byte, 16)
	n, _ := file.ReadAt(original, 0) // io.EOF, with what there is
	o := oomScore{file: file, original: original[:n]}
	if n == 0 || o.set([]byte("-1000")) != nil {
		_ = file.Close()
		return oomScore{}
	}
	return o
}

func (o oomScore) spare(yes bool) {
	switch {
	case o.file == nil:
	case yes:
		o.set([]byte("-1000")) //nolint:errcheck // it could be lowered before, and is a kindness
	default:
		o.set(o.original) //nolint:errcheck // raising is always allowed
	}
}

func (o oomScore) set(score []byte) error {
	_, err := o.file.WriteAt(score, 0)
	return err
}
