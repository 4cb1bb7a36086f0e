package run

import (
	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/internal/wire"
)

// unready is which of its ports the command does not serve on now, as others read it.
func unready(box *sandbox.Sandbox) []wire.Unready {
	var all []wire.Unready
	for _, u := range box.Unready() {
		all = append(all, wire.Unready(u))
	}
	return all
}

// followPorts reports each change of that until the sandbox has ended. An error of
// report says that nobody wants to know any more.
func followPorts(box *sandbox.Sandbox, report func([]wire.Unready) error) {
	for {
		select {
		case <-box.UnreadyChanged():
		case <-box.Done():
			return
		}
		if report(unready(box)) != nil {
			return
		}
	}
}
