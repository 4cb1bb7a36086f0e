package sandbox

import (
	"net"
	"os"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/capture/seqpacket"
	"sluice.dev/sluice/internal/format"
)

// channelFormat is the format of what goes over the control channel; both ends are
// the same binary, unless it was replaced between the two.
//
//	1: the first
//	2: init watches the ports on which the command serves
//	3: what root keeps, ssh's configuration, what files are hidden, and a cgroup of its own;
//	   a descriptor more is handed out, for what is asked about connects
//	4: where process numbers begin, the folders of JVMs, and pipes
const channelFormat = 4

var channels = format.Kind{Name: "the channel between sluice and its sandbox", Oldest: channelFormat, Newest: channelFormat}

// What goes over the control channel: setup to init, ready back with the
// descriptors, start to init, started back; then orders to it and notes back until the end.
type (
	setup struct {
		Format int       `json:"format"` // of all messages of the channel
		Mask   []string  `json:"mask,omitempty"`
		RunAs  *Identity `json:"runAs,omitempty"`
		// Unix and Unsupervised are those of Config; OneUser says that init and the
		// command are in a user namespace of one user.
		Unix         []string `json:"unix,omitempty"`
		Unsupervised bool     `json:"unsupervised,omitempty"`
		OneUser      bool     `json:"oneUser,omitempty"`
		// SSH are files of root that ssh of the command's user has to read; they are open
		// as the last descriptors but the pipes.
		SSH []string `json:"ssh,omitempty"`
		// NoFileCapabilities is that of Config.
		Session            bool     `json:"session,omitempty"` // init leads one, with the command's terminal
		NoFileCapabilities bool     `json:"noFileCapabilities,omitempty"`
		PivotRoot          bool     `json:"pivotRoot,omitempty"` // that of Config
		Listen             []uint16 `json:"listen,omitempty"`
		Checks             []Check  `json:"checks,omitempty"`
		Files              bool     `json:"files,omitempty"`       // parts of Files follow
		Cgroups            string   `json:"cgroups"`               // see group
		PidSeed            uint64   `json:"pidSeed"`               // see pidSeed
		Performance        []string `json:"performance,omitempty"` // see performanceFolders
		// Pipes are the numbers of pipes, which are open as the last descriptors of all.
		Pipes []int `json:"pipes,omitempty"`
	}
	ready struct {
		Format  int       `json:"format"`
		Failure *failure  `json:"failure,omitempty"`
		Notes   []string  `json:"notes,omitempty"`
		Lowered []string  `json:"lowered,omitempty"` // those of Notes that do not hold here but elsewhere
		Unready []Unready `json:"unready,omitempty"`
		// OwnDevices says that of the machine's devices the command has none.
		OwnDevices bool   `json:"ownDevices,omitempty"`
		Shared     string `json:"shared,omitempty"` // why there is no cgroup namespace of its own after all
	}
	start struct {
		Search []string `json:"search,omitempty"`
	}
	started struct {
		Failure *failure `json:"failure,omitempty"`
	}
	order struct {
		Signal int `json:"signal"`
	}
	note struct {
		Stopped       bool    `json:"stopped,omitempty"`
		FilterRefused bool    `json:"filterRefused,omitempty"`
		Ports         *ports  `json:"ports,omitempty"`  // what has changed of them
		Opened        *opened `json:"opened,omitempty"` // a hidden file, for the first time
	}
	opened struct {
		Path string    `json:"path"`
		Time time.Time `json:"time"`
	}
	ports struct {
		Unready []Unready `json:"unready"`
	}
	// failure is an error that crosses a process.
	failure struct {
		Step  string        `json:"step,omitempty"`
		Errno syscall.Errno `json:"errno,omitempty"`
		Text  string        `json:"text"`
	}
)

// sendSetup sends it with the list of unix sockets of our network namespace, for init
// is in another one, and hides those that are outside; with the files of wanted.SSH, and
// with the pipes.
func sendSetup(control *net.UnixConn, wanted setup, pipes []Pipe, ssh []*os.File) error {
	var files []int
	list, err := os.Open("/proc/self/net/unix")
	if err == nil { // else init notes that it is missing
		defer list.Close()
		files = append(files, int(list.Fd()))
	}
	for _, file := range ssh {
		files = append(files, int(file.Fd()))
	}
	for _, pipe := range pipes {
		files = append(files, pipe.FD)
	}
	return seqpacket.Send(control, wanted, files...)
}

// listen takes what init tells, until the sandbox has ended.
func (s *Sandbox) listen() {
	for {
		var told note
		if _, err := seqpacket.Receive(s.control, &told, 0); err != nil {
			s.group.end()
			return
		}
		if told.Ports != nil {
			s.ports.set(told.Ports.Unready)
		}
		if told.Opened != nil {
			s.opened.add(told.Opened.Path, told.Opened.Time)
		}
		if told.Stopped {
			wake(s.stopped)
		}
		if told.FilterRefused {
			wake(s.refused)
		}
	}
}

// wake leaves one value; where the last was not looked at it is enough.
func wake(told chan struct{}) {
	select {
	case told <- struct{}{}:
	default:
	}
}
