package sandbox

// roles are what the test binary does inside a sandbox, or around one.
var roles map[string]func(args []string) int

func init() { // not a literal: the roles use what uses them
	roles = map[string]func(args []string) int{
		"get":           getRole,
		"ask":           askRole,
		"send":          sendRole,
		"own-servers":   ownServersRole,
		"dial":          dialRole,
		"serve":         serveRole,
		"listen":        listenRole,
		"cat-files":     catRole,
		"list":          listRole,
		"shell":         shellRole,
		"with-etc":      withEtcRole,
		"resolv":        resolvRole,
		"no-namespaces": noNamespacesRole, "examined": examinedRole,
		"parent": parentRole,
		"count":  countRole,
		"nested": nestedRole,
		"named":  namedRole, "renaming": renamingRole, "listen-on-input": listenOnInputRole, "own-sockets": ownSocketsRole, "pairs": pairsRole,
		"credentials": credentialsRole, "many-listeners": manyListenersRole, "filter": filterRole, "nested-level": nestedLevelRole,
		"ways-to-folder": waysToFolderRole, "pivoted": pivotedRole, "aliased": aliasedRole, "cgroup-ways": cgroupWaysRole, "cgroup-nested": cgroupNestedRole,
		"ways-to-file": waysToFileRole, "aliased-file": aliasedFileRole, "layers": layersRole, "run-secrets": runSecretsRole,
		"list-input": listInputRole, "pipe-ways": pipeWaysRole, "root-attack": rootAttackRole, "become": becomeRole, "remount": remountRole,
		"eat": eatRole, "spin": spinRole, "lift-limits": liftLimitsRole, "lift-limits-nested": liftLimitsNestedRole,
		"hide-and-seek": hideAndSeekRole, "freeze-nested": freezeNestedRole,
		"ssh-server": sshServerRole, "connects": connectsRole,
		"outcomes": outcomesRole, "many-connects": manyConnectsRole, "swapped": swappedRole, "once-more": onceMoreRole, "unmark": unmarkRole,
	}
}
