// Command kubectl is Kubernetes' own kubectl, as its module has it; the tests beside run
// it. It must add nothing.
package main

import (
	_ "k8s.io/client-go/plugin/pkg/client/auth" // as kubectl links them
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
