// Package rules tries the kinds of Sluice on the real API server: their definitions, the
// webhook that judges them, and what kubectl shows of both.
package rules

import (
	"fmt"
	"os"
	"testing"

	"sluice.dev/sluice/test/kube/cluster"
)

// definitions is the folder of the CRDs.
const definitions = "../../../deploy/crds"

var shared = cluster.Shared{Prepare: func(c *cluster.Cluster) error {
	for _, args := range [][]string{
		// The generator's folder holds a Go file too, which kubectl leaves out.
		{"apply", "-f", definitions},
		{"wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"},
		{"create", "namespace", "sluice-system"},
	} {
		r, err := c.RunKubectl("", args...)
		if err != nil || r.Code != 0 {
			return fmt.Errorf("kubectl %v: %v %+v", args, err, r)
		}
	}
	return nil
}}

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Stop()
	os.Exit(code)
}
