package sandbox

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A JVM shows jcmd and jps what it does in /tmp/hsperfdata_USER/PID, wherever java.io.tmpdir
// is, and takes away those of processes that it does not find.

const (
	performancePrefix = "/tmp/hsperfdata_"
	// performanceOptions bound the folder of a sandbox: a file in it has 32 KiB.
	performanceOptions = "mode=0755,size=16m,nr_inodes=1024"
)

// performanceFolders are where JVMs of a user may have their files. A user has more names
// where those of the environment are not those of the machine's list.
func performanceFolders(uid int) (folders []string) {
	var names []string
	if who, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		names = append(names, who.Username)
	}
	if uid == os.Geteuid() {
		names = append(names, os.Getenv("USER"), os.Getenv("LOGNAME")) // a directory service knows more users than the list
	}
	for _, name := range names {
		folder := performancePrefix + name
		if name != "" && !strings.Contains(name, "/") && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	return folders
}

// ownPerformanceFolders covers those that are there by folders of the sandbox. What is not
// there is not made, for it would stay: process numbers then tell its files apart.
func ownPerformanceFolders(folders []string, owner Identity) error {
	for _, folder := range folders {
		var stat unix.Stat_t
		fd, err := openAt(folder, &stat)
		if err != nil {
			continue
		}
		// A JVM uses only a folder of its own user, and everybody may write to /tmp.
		if int(stat.Uid) == owner.UID && stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			options := fmt.Sprintf("%s,uid=%d,gid=%d", performanceOptions, owner.UID, owner.GID)
			err = unix.Mount("tmpfs", "/proc/self/fd/"+strconv.Itoa(fd), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("mount %s: %w", folder, err)
		}
	}
	return nil
}
