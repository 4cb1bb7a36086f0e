// Package kubeapi is the rule API on one machine: Kubernetes' own CRD server and
// etcd, carried along in one process. The control plane starts it, reads the
// rules through Store and writes their status; commands speak to it over
// api.sock in plain HTTP. It must never open a TCP or an abstract socket, and
// never serve a peer that was not checked.
//
// The glue to Kubernetes' internals moves between its minor versions: all of it
// is in this folder, and all k8s.io modules move together. klog, the API server's
// metrics and its feature gates are global, so a process starts at most one
// Server at a time.
package kubeapi
