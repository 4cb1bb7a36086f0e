package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// OpenSSH takes a file that its configuration includes only from root or its own user. In
// a user namespace of one user root's files are nobody's, so ssh would refuse to start.

// Bounds of ssh's configuration. What is beyond is not looked at, and ssh may refuse it.
const (
	maxSSHFiles  = 32       // of root's, that are given to the user
	maxSSHPaths  = 4 << 10  // bytes of their names
	maxSSHRead   = 256      // files that are read for that
	maxSSHConfig = 64 << 10 // bytes of one
	maxSSHDepth  = 16       // includes within includes, as of ssh itself
	maxSSHNames  = 4 << 10  // names that are compared with patterns
)

// sshConfig collects what ssh includes of root.
type sshConfig struct {
	home    string // of our user, as the machine has it
	roots   func(owner uint32) bool
	seen    map[string]bool // by path without links
	paths   []string        // of files of root, without links
	files   []*os.File      // the same, open
	beyond  bool            // there is more than is taken
	written int             // bytes of paths
	named   int             // names that were compared with patterns
}

// findSSHConfig reads the configuration of ssh as it is outside, for only there root is known.
func findSSHConfig() *sshConfig {
	c := &sshConfig{roots: func(owner uint32) bool { return owner == 0 }, seen: make(map[string]bool)}
	if who, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
		c.home = who.HomeDir
	}
	c.find("/etc/ssh/ssh_config")
	return c
}

func (c *sshConfig) find(system string) {
	if c.home != "" {
		c.read(filepath.Join(c.home, ".ssh/config"), filepath.Join(c.home, ".ssh"), true, 0)
	}
	c.read(system, filepath.Dir(system), false, 0) // the file itself may be anybody's
}

func (c *sshConfig) close() {
	for _, file := range c.files {
		file.Close()
	}
}

// note says what of it is left.
func (c *sshConfig) note() string {
	if !c.beyond {
		return ""
	}
	return fmt.Sprintf("ssh may refuse files of root that its configuration includes: at most %d are given to the command's user, of %d KiB each", maxSSHFiles, maxSSHConfig>>10)
}

// read looks at one file and at those that it includes, which are below folder where
// they are relative. What cannot be read ssh cannot read either.
func (c *sshConfig) read(path, folder string, checked bool, depth int) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil || c.seen[real] {
		return
	}
	if len(c.seen) == maxSSHRead || depth > maxSSHDepth {
		c.beyond = true
		return
	}
	c.seen[real] = true
	file, err := os.OpenFile(real, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0) // a pipe would keep us waiting
	if err != nil {
		return
	}
	taken := false
	defer func() {
		if !taken {
			file.Close()
		}
	}()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	text, err := readSSHConfig(file)
	if err != nil {
		c.beyond = true
		return
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; checked && c.roots(owner) && info.Mode()&0o022 == 0 {
		taken = c.take(real, file)
	}
	home := ""
	if folder == filepath.Join(c.home, ".ssh") {
		home = c.home
	}
	for _, pattern := range sshIncludes(text, folder, home) {
		for _, path := range c.expand(pattern) {
			c.read(path, folder, true, depth+1)
		}
	}
}

// expand returns the paths that a pattern may mean, as filepath.Glob does, until the
// bound on what is looked at.
func (c *sshConfig) expand(pattern string) []string {
	paths := []string{"/"}
	for part := range strings.SplitSeq(strings.Trim(filepath.Clean(pattern), "/"), "/") {
		var below []string
		for _, folder := range paths {
			if !strings.ContainsAny(part, `*?[\`) {
				below = append(below, filepath.Join(folder, part))
				continue
			}
			for _, name := range c.names(folder) {
				if matched, err := filepath.Match(part, name); err == nil && matched {
					below = append(below, filepath.Join(folder, name))
				}
			}
		}
		paths = below
	}
	return paths
}

// names returns those of a folder, sorted, as far as the bound goes.
func (c *sshConfig) names(folder string) []string {
	left := maxSSHNames - c.named
	if c.named++; left <= 0 { // a folder without any counts too
		c.beyond = true
		return nil
	}
	file, err := os.OpenFile(folder, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer file.Close()
	names, _ := file.Readdirnames(left + 1)
	if len(names) > left {
		c.beyond, names = true, names[:left]
	}
	c.named += len(names)
	slices.Sort(names)
	return names
}

func (c *sshConfig) take(path string, file *os.File) bool {
	if len(c.files) == maxSSHFiles || c.written+len(path) > maxSSHPaths {
		c.beyond = true
		return false
	}
	c.written += len(path)
	c.paths, c.files = append(c.paths, path), append(c.files, file)
	return true
}

// readSSHConfig reads a file from its beginning, which another process may have left
// elsewhere: its offset is that of all who have the descriptor.
func readSSHConfig(file *os.File) (string, error) {
	text, err := io.ReadAll(io.NewSectionReader(file, 0, maxSSHConfig+1))
	if err == nil && len(text) > maxSSHConfig {
		err = errors.New("too large")
	}
	return string(text), err
}

// sshIncludes returns the patterns of each Include of a configuration, absolute. Home is
// set in a user's configuration alone, for ~ means something only there.
func sshIncludes(text, folder, home string) (patterns []string) {
	for line := range strings.Lines(text) {
		words := sshWords(line)
		if len(words) < 2 || !strings.EqualFold(words[0], "include") {
			continue
		}
		for _, pattern := range words[1:] {
			if below, ok := strings.CutPrefix(pattern, "~/"); ok && home != "" {
				pattern = filepath.Join(home, below)
			}
			switch {
			case strings.HasPrefix(pattern, "~"):
				continue
			case !filepath.IsAbs(pattern):
				pattern = filepath.Join(folder, pattern)
			}
			patterns = append(patterns, pattern)
		}
	}
	return patterns
}

const sshBlanks = " \t\r\n\f"

// sshWords splits a line as ssh does: a keyword, a blank or "=", and arguments, in quotes or
// not, until a comment.
func sshWords(line string) (words []string) {
	line = strings.Trim(line, sshBlanks)
	if line == "" || line[0] == '#' {
		return nil
	}
	end := strings.IndexAny(line, sshBlanks+"=")
	if end < 0 {
		return []string{line}
	}
	words = []string{strings.Trim(line[:end], `"`)}
	rest := strings.TrimLeft(line[end:], sshBlanks)
	rest = strings.TrimLeft(strings.TrimPrefix(rest, "="), sshBlanks)
	for rest != "" && rest[0] != '#' {
		var word string
		word, rest = sshWord(rest)
		words = append(words, word)
		rest = strings.TrimLeft(rest, sshBlanks)
	}
	return words
}

// sshWord cuts one argument off.
func sshWord(text string) (word, rest string) {
	var plain strings.Builder
	quote := byte(0)
	for at := 0; at < len(text); at++ {
		b := text[at]
		switch {
		case b == '\\' && at+1 < len(text) && strings.IndexByte(`'"\ `, text[at+1]) >= 0:
			at++
			plain.WriteByte(text[at])
		case quote == 0 && (b == '"' || b == '\''):
			quote = b
		case b == quote:
			quote = 0
		case quote == 0 && strings.IndexByte(sshBlanks, b) >= 0:
			return plain.String(), text[at:]
		default:
			plain.WriteByte(b)
		}
	}
	return plain.String(), ""
}
