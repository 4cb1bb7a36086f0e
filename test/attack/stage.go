package attack

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The addresses of the outside. They look like those of the internet and lie on the
// loopback interface of a network namespace of ours.
const (
	addressAllowed  = "93.184.215.14"
	addressDenied   = "93.184.215.15"
	addressResolver = "9.9.9.9"
	addressOther    = "1.1.1.1"
	addressMetadata = "169.254.169.254"
	addressPrivate  = "10.11.12.13"
	addressDenied6  = "2606:2800:21f:cb07::15"
)

var stageAddresses = []string{addressAllowed, addressDenied, addressResolver, addressOther, addressMetadata, addressPrivate, addressDenied6}

// inStage runs this binary again in a network namespace of its own, as ourselves.
func inStage(environment []string, arguments ...string) (*exec.Cmd, error) {
	stage := exec.Command("/proc/self/exe", arguments...)
	stage.Env = environment
	stage.Stdout, stage.Stderr = os.Stdout, os.Stderr
	stage.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid := os.Geteuid(); uid != 0 {
		stage.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		stage.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		stage.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		stage.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
	}
	return stage, nil
}

// stageMain sets the network up and becomes the outside, as who the sandbox is
// started by: uid.
func stageMain(uid int) error {
	p, err := readPlan()
	if err != nil {
		return err
	}
	if err := setUpNetwork(); err != nil {
		return fmt.Errorf("set up the network of the outside: %w", err)
	}
	if err := p.mountQueues(); err != nil {
		return err
	}
	runtime.LockOSThread() // the ambient capabilities are the thread's
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	world := exec.Command("/proc/self/exe", "world")
	world.Stdout, world.Stderr = os.Stdout, os.Stderr
	world.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if uid != os.Geteuid() {
		world.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	return world.Run()
}

// mountQueues gives the machine's message queues another name, where we may.
func (p *plan) mountQueues() error {
	if os.Geteuid() != 0 {
		return nil
	}
	folder := filepath.Join(p.Folder, "queues")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("mqueue", folder, "mqueue", 0, ""); err != nil && err != unix.ENODEV {
		return fmt.Errorf("mount message queues: %w", err)
	}
	return nil
}

func setUpNetwork() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return err
	}
	for _, text := range stageAddresses {
		address := netip.MustParseAddr(text)
		parsed, err := netlink.ParseAddr(netip.PrefixFrom(address, address.BitLen()).String())
		if err != nil {
			return err
		}
		if address.Is6() {
			parsed.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(lo, parsed); err != nil && !errors.Is(err, unix.EEXIST) && !(address.Is6() && errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP)) {
			return fmt.Errorf("add %s: %w", text, err)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
}
