package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// pauseImage is what holds the namespaces of a Pod.
const pauseImage = "local.test/pause:1"

// containerd starts Debian's containerd, with a network of one bridge.
func (n *Node) containerd(ctx context.Context) error {
	network := filepath.Join(n.dir, "cni")
	for _, dir := range []string{network, filepath.Dir(n.socket)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(network, "10-bridge.conflist"), []byte(`{"cniVersion": "1.0.0", "name": "bridge", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "/run/node/ipam", "ranges": [[{"subnet": "`+podNet+`"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
]}`), 0o600); err != nil {
		return err
	}
	path := n.in("containerd.toml")
	// Without CAP_SYS_RESOURCE no process may be spared by the kernel's killer more than its parent.
	if err := os.WriteFile(path, []byte(`version = 2
root = "`+n.in("containerd")+`"
state = "/run/node/containerd"
[grpc]
  address = "`+n.socket+`"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "`+pauseImage+`"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "`+plugins+`"
    conf_dir = "`+network+`"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`), 0o600); err != nil {
		return err
	}
	if err := n.launch("containerd", "containerd", "--config", path); err != nil {
		return err
	}
	return n.Until(ctx, "containerd is ready", func() (bool, error) {
		return exec.CommandContext(ctx, "ctr", "--address", n.socket, "version").Run() == nil, nil
	})
}

// Import gives the node an image of an archive.
func (n *Node) Import(ctx context.Context, archive string) error {
	cmd := exec.CommandContext(ctx, "ctr", "--address", n.socket, "--namespace", "k8s.io", "image", "import", archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import %s: %w: %s", archive, err, out)
	}
	return nil
}
