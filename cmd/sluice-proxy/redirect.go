package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/capture"
)

// maxRedirects bounds the ranges and the ports of one flag.
const maxRedirects = 64

// newRedirectCommand is what the init container of a Pod runs.
func newRedirectCommand() *cobra.Command {
	var uid, gid int64
	var include, exclude, includeIn, excludeIn []string
	var options capture.PodOptions
	c := &cobra.Command{
		Use:   "redirect",
		Short: "Redirect the traffic of this network namespace to a sidecar in it",
		Long: `redirect writes the packet rules of a Pod and ends: the TCP and the DNS that others than the proxy's
user send go to the sidecar (sluice-proxy --sidecar), and so does what is sent to ports on which
somebody listens. What else they send is refused. It takes NET_ADMIN in the namespace, and nothing
else; sluice kube-inject makes it the first init container of a Pod.`,
		Example: `  sluice-proxy redirect --proxy-uid 1337`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if options.NoInbound && len(includeIn)+len(excludeIn) > 0 {
				return errors.New("--no-inbound excludes --include-inbound-ports and --exclude-inbound-ports: no port goes through the sidecar")
			}
			if uid < 1 || uid >= 1<<32-1 {
				return fmt.Errorf("--proxy-uid %d must be a user other than root", uid)
			}
			if gid < 0 || gid >= 1<<32-1 {
				return fmt.Errorf("--proxy-gid %d is not a group", gid)
			}
			options.ProxyUID, options.ProxyGID = uint32(uid), uint32(gid)
			var errs [4]error
			options.Include, errs[0] = prefixes("include-ranges", include)
			options.Exclude, errs[1] = prefixes("exclude-ranges", exclude)
			options.IncludeInbound, errs[2] = portNumbers("include-inbound-ports", includeIn)
			options.ExcludeInbound, errs[3] = portNumbers("exclude-inbound-ports", excludeIn)
			if err := errors.Join(errs[:]...); err != nil {
				return err
			}
			return capture.RedirectPod(options)
		},
	}
	f := c.Flags()
	f.Int64Var(&uid, "proxy-uid", 1337, "user of the sidecar, whose traffic is not redirected")
	f.Int64Var(&gid, "proxy-gid", 0, "its group: a user of the same number in another group is redirected (default any)")
	f.StringSliceVar(&include, "include-ranges", nil, "destinations that go through the sidecar, CIDRs between commas; others bypass it, and names are resolved without it (default all)")
	f.StringSliceVar(&exclude, "exclude-ranges", nil, "destinations that bypass it, CIDRs between commas; names are resolved without it")
	f.StringSliceVar(&includeIn, "include-inbound-ports", nil, "ports on which what is sent to the Pod goes through the sidecar (default all)")
	f.StringSliceVar(&excludeIn, "exclude-inbound-ports", nil, "ports on which it does not")
	f.BoolVar(&options.NoInbound, "no-inbound", false, "nothing that is sent to the Pod goes through the sidecar")
	return c
}

func prefixes(flag string, texts []string) (all []netip.Prefix, err error) {
	if len(texts) > maxRedirects {
		return nil, fmt.Errorf("--%s: at most %d are supported", flag, maxRedirects)
	}
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix.Addr().Is4In6() {
			return nil, fmt.Errorf("--%s: %q is not a CIDR such as 10.0.0.0/8", flag, text)
		}
		all = append(all, prefix.Masked())
	}
	return all, nil
}

func portNumbers(flag string, texts []string) (all []uint16, err error) {
	if len(texts) > maxRedirects {
		return nil, fmt.Errorf("--%s: at most %d are supported", flag, maxRedirects)
	}
	for _, text := range texts {
		port, err := portNumber(text)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		all = append(all, port)
	}
	return all, nil
}
