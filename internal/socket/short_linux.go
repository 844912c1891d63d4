//go:build !portable

package socket

import (
	"fmt"
	"os"
)

// shortened goes through a descriptor of the folder.
func shortened(dir string, do func(short string) error) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only looked up through
	return do(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
}
