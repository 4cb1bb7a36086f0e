package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"sluice.dev/sluice/internal/control/kubeapi"
)

// etcdOptions are the flags of a server whose rules are in an etcd elsewhere, called as
// kube-apiserver calls them.
type etcdOptions struct {
	servers                   []string
	caFile, certFile, keyFile string
}

func (o *etcdOptions) define(f *pflag.FlagSet) {
	var servers []string
	if said := environment("SLUICE_ETCD_SERVERS", ""); said != "" {
		servers = strings.Split(said, ",")
	}
	f.StringSliceVar(&o.servers, "etcd-servers", servers, "`URL`s of the members of an etcd that keeps the rules in place of the data folder (SLUICE_ETCD_SERVERS)")
	f.StringVar(&o.caFile, "etcd-cafile", environment("SLUICE_ETCD_CAFILE", ""), "`FILE` with the authorities that sign its certificates (SLUICE_ETCD_CAFILE)")
	f.StringVar(&o.certFile, "etcd-certfile", environment("SLUICE_ETCD_CERTFILE", ""), "`FILE` with the certificate that is shown to it (SLUICE_ETCD_CERTFILE)")
	f.StringVar(&o.keyFile, "etcd-keyfile", environment("SLUICE_ETCD_KEYFILE", ""), "`FILE` with the key of that certificate (SLUICE_ETCD_KEYFILE)")
}

// external returns the etcd that is named; nil where none is.
func (o *etcdOptions) external() (*kubeapi.External, error) {
	if len(o.servers) == 0 {
		if o.caFile+o.certFile+o.keyFile != "" {
			return nil, errors.New("a file for etcd is named and no --etcd-servers: name both")
		}
		return nil, nil
	}
	external := &kubeapi.External{Servers: o.servers, CAFile: o.caFile, CertFile: o.certFile, KeyFile: o.keyFile}
	if err := external.Check(); err != nil {
		return nil, fmt.Errorf("--etcd-servers: %w", err)
	}
	return external, nil
}
