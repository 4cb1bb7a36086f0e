package cli

import (
	"strings"
	"testing"
)

// TestEveryCommandOfKubectlAndIstioctlIsOursOrAnswered has the commands of kubectl 1.37 and of
// istioctl 0.5.
func TestEveryCommandOfKubectlAndIstioctlIsOursOrAnswered(t *testing.T) {
	const theirs = `alpha annotate api-resources api-versions apply attach auth autoscale certificate cluster-info completion config
		cordon cp create debug delete describe diff drain edit events exec explain expose get help kuberc kustomize label logs options patch plugin
		port-forward proxy replace rollout run scale set taint top uncordon version wait
		context-create deregister experimental gen-deploy kube-inject proxy-config register`
	root := newRootCommand()
	root.InitDefaultCompletionCmd()
	ours := map[string]bool{"help": true}
	for _, c := range root.Commands() {
		ours[c.Name()] = true
		if _, both := others[c.Name()]; both {
			t.Errorf("%s is a command, and is said to be none", c.Name())
		}
	}
	for _, name := range strings.Fields(theirs) {
		if err := otherCommand(root, []string{name}); !ours[name] && err == nil {
			t.Errorf("sluice %s is not answered", name)
		}
	}
	for name, instead := range others {
		// What is advised exists.
		for at := strings.Index(instead, "sluice "); at >= 0; at = strings.Index(instead, "sluice ") {
			instead = instead[at+len("sluice "):]
			word, _, _ := strings.Cut(instead, " ")
			if word = strings.TrimRight(word, ":;,"); word != "is" && word != "COMMAND" && !strings.HasPrefix(word, "-") && !ours[word] {
				t.Errorf("%s is answered with sluice %s, which does not exist", name, word)
			}
		}
	}
}
