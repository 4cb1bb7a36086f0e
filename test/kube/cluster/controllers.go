package cluster

import (
	"path/filepath"
	"strings"
)

// StartControllers runs controllers of kube-controller-manager by their names, "*" for all of
// them, with further flags.
func (c *Cluster) StartControllers(names []string, flags ...string) (err error) {
	in := func(name string) string { return filepath.Join(c.Dir, name) }
	if err := c.WriteUser(in("manager.conf"), "system:kube-controller-manager"); err != nil {
		return err
	}
	c.manager, err = Launch(in("manager.log"), filepath.Join(c.Binaries, "kubebox"), append([]string{
		"kube-controller-manager", "--kubeconfig=" + in("manager.conf"), "--controllers=" + strings.Join(names, ","),
		"--leader-elect=false", "--secure-port=0",
		// Each controller has the rights of its own account, as it has in a cluster; the plain user lacks them.
		"--use-service-account-credentials=true", "--service-account-private-key-file=" + in("accounts.key"), "--root-ca-file=" + in("ca.crt"),
		// By default the limit of the client is used up by one token for each controller, and all wait for 5 s.
		"--kube-api-qps=500", "--kube-api-burst=500",
	}, flags...)...)
	return err
}

// Controllers is the process of the controllers; nil where none run.
func (c *Cluster) Controllers() *Process { return c.manager }
