package wire

// Levels of a workload in a Pod; that of a sandbox is the sandbox's.
const (
	LevelSidecar  = "sidecar"  // its traffic is redirected to a sidecar beside it
	LevelLowered  = "lowered"  // as that, and a program of the Pod may become the sidecar's user
	LevelBypassed = "bypassed" // part of it is not, as its MeshConfig allows
)

// LevelLacks says what a level does not hold, "" of one that is not a Pod's.
func LevelLacks(level string) string {
	switch level {
	case LevelSidecar:
		return "the redirect of the Pod's network namespace holds, unless who may change the Pod gives a container NET_ADMIN, NET_RAW or the proxy's uid"
	case LevelLowered:
		return "as sidecar, and a container may be or become root or the proxy's user, who gets around the redirect: the log of the sidecar says which, and kube-inject what to set"
	case LevelBypassed:
		return "part of the Pod's traffic does not go through its sidecar, and no rule holds it: the log of the sidecar says which"
	}
	return ""
}
