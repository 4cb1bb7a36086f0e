package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/capture/seqpacket"
	"sluice.dev/sluice/internal/trim"
)

const (
	// initName is argv[0] of init.
	initName = "sluice-sandbox"
	// controlFD is the descriptor that init gets from its parent.
	controlFD = 3
	// exitInit is init's status where its parent is gone or makes no sense.
	exitInit = 125
	// exitKilled is its status when it ends before the command.
	exitKilled = 128 + int(unix.SIGKILL)
)

// Init is the first call of a main function whose binary starts sandboxes. In
// the process that New re-executed it is PID 1 of the sandbox and never returns;
// in any other it does nothing.
func Init() {
	if len(os.Args) > 1 && os.Args[0] == initName {
		os.Exit(initMain(os.Args[1:]))
	}
}

// initMain sets up, waits for the start, and lives as long as the command: it
// reaps, delivers signals and makes sockets. Its end is that of every process in
// the sandbox.
func initMain(command []string) int {
	signals := receiveSignals()
	closeLeaked()
	control, err := seqpacket.Conn(controlFD)
	if err != nil {
		return exitInit
	}
	var wanted setup
	lists, err := seqpacket.Receive(control, &wanted, 1+MaxPipes+maxSSHFiles)
	if err != nil {
		return exitInit
	}
	if err := channels.Check(wanted.Format); err != nil {
		seqpacket.Send(control, ready{Format: channelFormat, Failure: failureOf("channel", err)})
		return exitInit
	}
	lists, pipes, err := takePipes(lists, wanted.Pipes)
	if err != nil {
		return exitInit
	}
	hidden := new(Files)
	if wanted.Files {
		if hidden, err = receiveFiles(control); err != nil {
			return exitInit
		}
	}
	inside, outcome, files := setUpInside(&wanted, hidden, lists, control)
	outcome.Format = channelFormat
	watch := newPortWatch(control, &wanted, &outcome)
	seqpacket.Close(lists) // it would keep our parent's network namespace
	descriptors := make([]int, len(files))
	for i, file := range files {
		descriptors[i] = int(file.Fd())
	}
	err = seqpacket.Send(control, outcome, descriptors...)
	capture.CloseFiles(files) // or the namespace would outlive the proxy's detach
	if err != nil || outcome.Failure != nil {
		return exitInit
	}

	var begin start
	if _, err := seqpacket.Receive(control, &begin, 0); err != nil {
		return exitInit // the parent is gone before the start
	}
	if inside.asker != nil {
		inside.asker.Await()
	}
	pid, err := beginCommand(command, inside, begin.Search, wanted.Session, pipes)
	ClosePipes(pipes)
	if err != nil {
		seqpacket.Send(control, started{Failure: failureOf("start", err)})
		return exitInit
	}
	if err := seqpacket.Send(control, started{}); err != nil {
		return exitKilled
	}
	close(inside.supervision.begun)
	trim.Later()
	stops, seen := make(chan unix.Signal, 1), newSeenSignals()
	go seen.watch(signals)
	go deliver(control, seen, pid, wanted.Session)
	go tellStops(control, seen, pid, stops)
	go watch.run(context.Background(), wanted.Listen, wanted.Checks)
	inside.opens.run(control)
	exit := reap(pid, stops)
	inside.opens.finish()
	return exit
}

// interior is what the set-up leaves for the start of the command.
type interior struct {
	supervision *supervision
	asker       *capture.Asker // nil where connects are not asked about
	resolvConf  *resolvConf    // nil where there is none to replace
	opens       *openWatch     // nil where nothing is hidden
}

// setUpInside makes the mounts and the network, and decides over unix sockets from
// then on. What went wrong is in outcome. Lists holds the unix sockets of our
// parent's network namespace, where it could be opened, and the files of wanted.SSH.
func setUpInside(wanted *setup, hidden *Files, lists []int, control *net.UnixConn) (inside *interior, outcome ready, files []*os.File) {
	if len(lists) < len(wanted.SSH) {
		return nil, ready{Failure: failureOf("channel", errors.New("files of ssh are missing"))}, nil
	}
	lists, ssh := lists[:len(lists)-len(wanted.SSH)], lists[len(lists)-len(wanted.SSH):]
	directory, err := workingFolder()
	if err != nil {
		return nil, ready{Failure: failureOf(stepFolder, err)}, nil
	}
	// What we make is for whoever the command is, not for us alone.
	defer unix.Umask(unix.Umask(0))
	named, err := openNamed(wanted.Unix)
	if err != nil {
		return nil, ready{Failure: failureOf(stepUnix, err)}, nil
	}
	if outcome.Lowered, err = ownMounts(); err != nil {
		return nil, ready{Failure: failureOf(stepMounts, err)}, nil
	}
	if note := beginPids(wanted.PidSeed); note != "" {
		outcome.Notes = append(outcome.Notes, note)
	}
	root, closed := giveRoot(wanted)
	if outcome.OwnDevices = root.ownDevices; closed != "" {
		outcome.Lowered = append(outcome.Lowered, closed)
	}
	if wanted.PivotRoot {
		outcome.Lowered = append(outcome.Lowered, pivotRootLowers)
	}
	supervision, err := superviseOrHide(wanted, root)
	if err != nil {
		return nil, ready{Failure: failureOf(stepConfine, err)}, nil
	}
	if err := supervision.launcher.shared; err != nil {
		outcome.Shared = err.Error()
	}
	if err := protectCgroups(); err != nil {
		return nil, ready{Failure: failureOf(stepMounts, err)}, nil
	}
	mounts, err := setUpMounts(wanted, hidden, lists, named, root, supervision.full())
	if err != nil {
		return nil, ready{Failure: failureOf(stepMounts, err)}, nil
	}
	if outcome.Lowered = append(outcome.Lowered, mounts.lowered...); supervision.lowered != "" {
		outcome.Lowered = append(outcome.Lowered, supervision.lowered)
	}
	if err := placeSSHConfig(wanted.SSH, ssh); err != nil {
		outcome.Notes = append(outcome.Notes, fmt.Sprintf("ssh may refuse files of root that its configuration includes (%v)", err))
	}
	const lowestPort = "/proc/sys/net/ipv4/ip_unprivileged_port_start" // the command has not the capability for them
	if err := os.WriteFile(lowestPort, []byte("0"), 0); err != nil {
		outcome.Notes = append(outcome.Notes, "the command cannot listen on ports below 1024")
	}
	files, network, err := capture.SetUpNamespace(capture.Options{LoopbackDNS: mounts.resolvConf == nil, Ask: supervision.full()})
	if err != nil {
		return nil, ready{Failure: failureOf("network", err)}, nil
	}
	go capture.ServeSockets(network.Sockets)
	outcome.Notes = append(outcome.Notes, answersLate(network)...)
	if err := supervision.start(wanted, named, control, network.Asker); err != nil {
		capture.CloseFiles(files)
		return nil, ready{Failure: failureOf(stepConfine, err)}, nil
	}
	if !hasScopes() {
		outcome.Lowered = append(outcome.Lowered, "the command can signal what is outside in its own process group: the kernel has no Landlock scopes (Linux 6.12)")
	}
	if os.Geteuid() == 0 {
		outcome.Lowered = append(outcome.Lowered, protectKernelFiles()...)
	}
	if err := reopenStreams(); err != nil {
		capture.CloseFiles(files)
		return nil, ready{Failure: failureOf(stepStreams, err)}, nil
	}
	if err := directory.enter(); err != nil {
		capture.CloseFiles(files)
		return nil, ready{Failure: failureOf(stepFolder, err)}, nil
	}
	outcome.Notes = append(outcome.Notes, outcome.Lowered...)
	if mounts.opens != nil && mounts.opens.failed != "" {
		outcome.Notes = append(outcome.Notes, mounts.opens.failed)
	}
	return &interior{supervision: supervision, asker: network.Asker, resolvConf: mounts.resolvConf, opens: mounts.opens}, outcome, files
}

// closeLeaked closes descriptors that whoever started our parent left open:
// sockets of the host among them would be a way out.
func closeLeaked() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		unix.CloseRange(controlFD+1, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
		return
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= controlFD {
			continue
		}
		// Those of our own runtime are close-on-exec, all of them.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	unix.CloseOnExec(controlFD)
}

// reap waits for every process that ends in the sandbox, until the command has.
// That the command was stopped goes to stops, unless the last was not looked at.
func reap(pid int, stops chan<- unix.Signal) (exit int) {
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, unix.WUNTRACED, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return exitKilled
		case status.Stopped():
			if ended != pid {
				continue
			}
			select {
			case stops <- status.StopSignal():
			default:
			}
		case ended == pid && status.Signaled():
			return 128 + int(status.Signal())
		case ended == pid:
			return status.ExitStatus()
		}
	}
}

// beginCommand writes the search list and starts the command.
func beginCommand(command []string, inside *interior, search []string, session bool, pipes []Pipe) (pid int, err error) {
	if inside.resolvConf != nil {
		if err := inside.resolvConf.write(search); err != nil {
			return 0, err
		}
	}
	// From here on nobody without a capability looks into init. Earlier would
	// take its own /proc/self from it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, err
	}
	return inside.supervision.launcher.start(command, session, pipes)
}

// IsBelow says whether a path is a folder or lies in it; links are not followed.
func IsBelow(path, folder string) bool {
	relative, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(relative)
}
