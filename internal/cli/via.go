//go:build linux

package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/run"
)

const (
	viaFlag            = "via-proxy"
	viaFromEnvironment = "environment" // the value of a flag that has none
)

// viaProxy reads the flags of a proxy that all leaves through; nil: none.
func (o *runOptions) viaProxy(cmd *cobra.Command, args []string, getenv func(string) string) (*run.Via, error) {
	flags := cmd.Flags()
	text := o.via
	switch {
	case !flags.Changed(viaFlag) && getenv(run.ViaVariable) == "":
		if flags.Changed("via-proxy-credentials") {
			return nil, errors.New("--via-proxy-credentials is for --via-proxy: give it too")
		}
		return nil, nil
	case flags.Changed(viaFlag) && text == "":
		return nil, errors.New("--via-proxy= has an empty value: write --via-proxy=URL, or --via-proxy alone for the proxy of the environment")
	case text == viaFromEnvironment:
		if looksLikeProxy(args[0]) {
			return nil, errors.New("--via-proxy takes its value behind an equals sign: write --via-proxy=URL")
		}
		text = ""
	}
	return run.ParseVia(text, o.viaLogin, getenv)
}

// looksLikeProxy reports whether what stands where the command is to be is a URL or
// HOST:PORT: the value of a flag that takes it behind an equals sign alone.
func looksLikeProxy(word string) bool {
	host, err := names.ParseHost(word)
	return strings.Contains(word, "://") || err == nil && host.Port != 0
}
