package carry

import (
	"cmp"

	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/sniff"
)

// Greet carries what a server says first, until the client says something, which listen
// reads, or is silent for as long as listen waits while the server is silent too. The
// relay is paused then; the error is one side's.
func Greet(through *relay.Relay, listen func() (sniff.Result, []byte, error)) (seen sniff.Result, said []byte, err error) {
	for {
		before := through.Received()
		through.Greet()
		seen, said, err = listen()
		err = cmp.Or(through.Pause(), err)
		if err != nil || !seen.Silent || seen.Ended || through.Received() == before {
			return seen, said, err
		}
	}
}
