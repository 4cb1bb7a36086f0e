// Package controlplane tries sluice-server on a real API server of Kubernetes: it plays the
// proxies of Pods, which join by their tokens, and holds services, replicas and the rights of
// the installation. It never starts a Pod.
package controlplane
