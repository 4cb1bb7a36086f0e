package run

import (
	"testing"
	"time"

	"sluice.dev/sluice/internal/wire"
)

func TestALimitThatCannotBeMeantIsRefusedByItsFlag(t *testing.T) {
	for want, l := range map[string]wire.Limits{
		"": {Connections: 1 << 20, UpstreamConnections: 1, QueueTimeout: time.Minute},
		"--max-connections -1 must be a number from 1 to 1048576":               {Connections: -1},
		"--max-upstream-connections 1048577 must be a number from 1 to 1048576": {UpstreamConnections: 1<<20 + 1},
		"--queue-timeout 1ns must be from 10ms to 10m0s":                        {QueueTimeout: 1},
	} {
		err := CheckLimits(l)
		if got := ""; err != nil || want != "" {
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%+v: %q, want %q", l, got, want)
			}
		}
	}
}
