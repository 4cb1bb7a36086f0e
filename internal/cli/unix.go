//go:build linux

package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// socketFiles makes the paths of --unix absolute, and says what is not a socket.
func socketFiles(paths []string) (absolute []string, err error) {
	for _, path := range paths {
		full, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("--unix %q: %w", path, err)
		}
		info, err := os.Stat(full)
		switch {
		case path == "":
			return nil, errors.New("--unix \"\" names no socket: is the variable that it comes from set?")
		case strings.HasPrefix(path, "@"):
			return nil, fmt.Errorf("--unix %q: a name without a file belongs to the network namespace outside, and cannot be reached", path)
		case err != nil:
			return nil, fmt.Errorf("--unix: %w", err)
		case info.Mode().Type() != os.ModeSocket:
			return nil, fmt.Errorf("--unix %s: not a unix socket", path)
		}
		absolute = append(absolute, full)
	}
	return absolute, nil
}
