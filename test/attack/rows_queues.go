package attack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// queue opens a POSIX message queue.
func queue(name string, flags uintptr) error {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(path)), flags, 0o666, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

// keyOf is the key of what the outside has of System V.
func keyOf(uid int) uintptr { return uintptr(0x51ce0000 + uid) }

// systemV looks for a shared memory, a queue and semaphores by their key.
func systemV(key uintptr, flags uintptr) (err error) {
	for _, open := range []func() error{
		func() error { return call(unix.SYS_SHMGET, key, 4096, flags) },
		func() error { return call(unix.SYS_MSGGET, key, flags) },
		func() error { return call(unix.SYS_SEMGET, key, 1, flags) },
	} {
		if err = open(); (err == nil) != (flags != 0) { // all are made, or the first is found
			return err
		}
	}
	return err
}

func removeSystemV(key uintptr) {
	if id, _, errno := unix.Syscall(unix.SYS_SHMGET, key, 0, 0); errno == 0 {
		unix.Syscall(unix.SYS_SHMCTL, id, unix.IPC_RMID, 0)
	}
	if id, _, errno := unix.Syscall(unix.SYS_MSGGET, key, 0, 0); errno == 0 {
		unix.Syscall(unix.SYS_MSGCTL, id, unix.IPC_RMID, 0)
	}
	if id, _, errno := unix.Syscall(unix.SYS_SEMGET, key, 0, 0); errno == 0 {
		unix.Syscall(unix.SYS_SEMCTL, id, 0, unix.IPC_RMID)
	}
}

// makeQueues leaves something wherever processes of one machine meet.
func (o *outside) makeQueues() error {
	key := keyOf(o.UID)
	removeSystemV(key)
	o.close = append(o.close, func() {
		removeSystemV(key)
		path, _ := unix.BytePtrFromString(o.inside.Name)
		unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(path)), 0, 0)
		os.Remove("/dev/shm/" + o.inside.Name)
	})
	for _, err := range []error{queue(o.inside.Name, unix.O_CREAT|unix.O_RDWR), systemV(key, unix.IPC_CREAT|0o666)} {
		if err != nil && err != unix.ENOSYS && err != unix.EACCES {
			return err
		}
	}
	err := os.WriteFile("/dev/shm/"+o.inside.Name, []byte("the secret"), 0o666)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a machine without /dev/shm
	}
	return err
}

func queueRows() []Row {
	gone := []error{unix.ENOENT}
	shared := func(in *Inside) error {
		_, err := os.ReadFile("/dev/shm/" + in.Name)
		return err
	}
	return []Row{
		{ID: "queue-own", Works: true, Tried: "Use message queues, System V and /dev/shm of the command's own", Right: "they work",
			Inside: func(in *Inside) error {
				name, key := in.Name+"-own", keyOf(in.UID)+1<<16
				path := "/dev/shm/" + name
				defer os.Remove(path)
				return errors.Join(os.WriteFile(path, nil, 0o600), queue(name, unix.O_CREAT|unix.O_RDWR), queue(name, unix.O_RDWR), systemV(key, unix.IPC_CREAT|0o666))
			}},
		{ID: "queue-posix", Tried: "Open a POSIX message queue of the outside", Right: "it is not there",
			Bare: everybody, Inside: func(in *Inside) error { return queue(in.Name, unix.O_RDWR) }, Refused: []error{unix.ENOENT, unix.ENOSYS}},
		{ID: "queue-mounted", Tried: "Find a message queue of the outside in a mount of queues, wherever that is", Right: "it is not there",
			Bare: everybody, Inside: func(in *Inside) error {
				for _, folder := range []string{"/dev/mqueue", filepath.Join(in.Folder, "queues")} {
					if _, err := os.Stat(filepath.Join(folder, in.Name)); err == nil {
						return nil
					}
				}
				return unix.ENOENT
			}, Refused: gone, Before: func(o *outside) error {
				if _, err := os.Stat(filepath.Join(o.Folder, "queues", o.inside.Name)); err != nil {
					return skipped("only root can mount them a second time")
				}
				return nil
			}},
		{ID: "queue-nested", Tried: "Mount the message queues anew in a user namespace", Right: "those of the outside are not there",
			Flags: unix.CLONE_NEWNS, Nested: func(in *Inside) error {
				unix.Unmount("/dev/mqueue", unix.MNT_DETACH)
				unix.Mount("mqueue", "/mnt", "mqueue", 0, "")
				for _, folder := range []string{"/mnt", "/dev/mqueue"} {
					if _, err := os.Stat(filepath.Join(folder, in.Name)); err == nil {
						return nil
					}
				}
				return held("they are not there")
			}},
		{ID: "queue-system-v", Tried: "Find shared memory, queues or semaphores of System V by their key", Right: "they are not there",
			Bare: everybody, Inside: func(in *Inside) error { return systemV(keyOf(in.UID), 0) }, Refused: []error{unix.ENOENT, unix.ENOSYS}},
		{ID: "shared-memory", Tried: "Read or write what the outside has in /dev/shm", Right: "it is not there",
			Bare: everybody, Inside: shared, Refused: gone},
		{ID: "shared-nested", Tried: "Uncover the outside's /dev/shm in a user namespace", Right: "what covers it stays",
			Flags: unix.CLONE_NEWNS, Nested: func(in *Inside) error {
				err := errors.Join(unix.Unmount("/dev/shm", unix.MNT_DETACH), unix.Mount("/dev", "/mnt", "", unix.MS_BIND, ""))
				if shared(in) == nil {
					return nil
				}
				if _, err := os.Stat("/mnt/shm/" + in.Name); err == nil {
					return nil
				}
				return held(fmt.Sprint("it is not there: ", err))
			}},
		{ID: "shared-left", Tried: "Leave a file in /dev/shm for the outside", Right: "it is the sandbox's own",
			Bare: everybody, Inside: func(in *Inside) error {
				if err := os.WriteFile("/dev/shm/"+in.Name+"-left", nil, 0o666); err != nil {
					return skipped(err.Error())
				}
				return held("it was written inside")
			}, After: func(o *outside) error {
				path := "/dev/shm/" + o.inside.Name + "-left"
				if os.Remove(path) == nil {
					return errors.New("it is outside")
				}
				return nil
			}},
	}
}
