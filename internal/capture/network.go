package capture

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NetworkOf returns the number that the kernel gave a socket's network namespace (Linux
// 5.14).
func NetworkOf(socket int) (number uint64, err error) {
	length := uint32(unsafe.Sizeof(number))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(socket), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE,
		uintptr(unsafe.Pointer(&number)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("the number of a network namespace: %w", errno)
	}
	return number, nil
}

// OwnNetwork is NetworkOf the calling thread's.
func OwnNetwork() (uint64, error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(socket)
	return NetworkOf(socket)
}
