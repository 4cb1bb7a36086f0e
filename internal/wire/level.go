package wire

// Levels of a workload in a Pod; that of a sandbox is the sandbox's.
const (
	LevelSidecar  = "sidecar"  // its traffic is redirected to a sidecar beside it
	LevelBypassed = "bypassed" // part of it is not, as its MeshConfig allows
)

// LevelLacks says what a level does not hold, "" of one that is not a Pod's.
func LevelLacks(level string) string {
	switch level {
	case LevelSidecar:
		return "the redirect of the Pod's network namespace holds; not where a container has NET_ADMIN, NET_RAW or the proxy's uid, or is root and can take it"
	case LevelBypassed:
		return "part of the Pod's traffic does not go through its sidecar, and no rule holds it: the log of the sidecar says which"
	}
	return ""
}
