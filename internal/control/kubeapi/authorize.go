package kubeapi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/authority"
)

// rolePrefix stands before a role where it is a group of Kubernetes.
const rolePrefix = "sluice:"

var (
	readVerbs  = []string{"get", "list", "watch"}
	writeVerbs = []string{"create", "update", "patch", "delete", "deletecollection"}
	// readPaths are what a client of Kubernetes asks to learn what is served. What is
	// below /metrics, /debug and /logs is not for it.
	readPaths = []string{"/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz"}
)

// authorize is the one decision on what a request may do: we and the administrator may
// do everything, a remote client what its role says. What no line allows is refused.
func authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	groups := a.GetUser().GetGroups()
	if slices.Contains(groups, user.SystemPrivilegedGroup) {
		return authorizer.DecisionAllow, "", nil
	}
	role := ""
	for _, each := range authority.Roles() {
		if slices.Contains(groups, rolePrefix+each) {
			role = each
		}
	}
	if role == "" {
		return authorizer.DecisionDeny, "it has no role", nil
	}
	if reason := refusal(role, a); reason != "" {
		return authorizer.DecisionDeny, reason, nil
	}
	return authorizer.DecisionAllow, "", nil
}

// refusal says why a role may not do what a request asks for; "" where it may.
func refusal(role string, a authorizer.Attributes) string {
	const (
		onlyServer = "%s are the server's alone to write"
		onlyHere   = "it is for processes of this machine over api.sock alone"
	)
	if !a.IsResourceRequest() {
		for _, path := range readPaths {
			if a.GetVerb() == "get" && (a.GetPath() == path || strings.HasPrefix(a.GetPath(), path+"/")) {
				return ""
			}
		}
		return onlyHere
	}
	reads, writes := slices.Contains(readVerbs, a.GetVerb()), slices.Contains(writeVerbs, a.GetVerb())
	switch {
	case a.GetAPIGroup() == apiextensions.GroupName && a.GetResource() == "customresourcedefinitions":
		switch {
		case reads:
			return ""
		case writes:
			return fmt.Sprintf(onlyServer, "the definitions of the kinds")
		}
	case a.GetAPIGroup() == "" && a.GetResource() == "namespaces" && a.GetSubresource() == "" && a.GetVerb() == "get":
		return "" // kubectl asks whether a namespace is there
	case slices.ContainsFunc(api.Kinds(), func(k *api.Kind) bool {
		return k.Group == a.GetAPIGroup() && k.Plural == a.GetResource()
	}):
		switch {
		case reads:
			return ""
		case writes && a.GetSubresource() != "":
			return fmt.Sprintf(onlyServer, "statuses")
		case writes && role == authority.Editor:
			return ""
		case writes:
			return "the role " + role + " reads only: ask for a kubeconfig with sluice kubeconfig --role " + authority.Editor
		}
	}
	return onlyHere
}
