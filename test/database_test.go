package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// A database whose server speaks first is reached inside the mesh without a wait,
// whether its port is said to be tcp, is known by its number, or is neither. Each client
// waits for at most 3 s, less than the 5 s that it cost where nobody looked.
func TestADatabaseInsideTheMeshIsReachedWithoutAWait(t *testing.T) {
	eachMachinery(t, func(t *testing.T, m *machinery) {
		const handshake = "\x4a\x00\x00\x00\x0a11.4.2-MariaDB\x00"
		ports := []string{"3306/tcp", "3306", "3300", "3301"}
		m.create(t, `kind: MeshService
apiVersion: sluice.dev/v1alpha1
metadata: {name: declared}
spec:
  ports: [{port: 3301, protocol: tcp}]
`)
		caller := m.StartWorkload(t, "--service", "caller")
		for i, listen := range ports {
			name, port := fmt.Sprint("db", i), strings.TrimSuffix(listen, "/tcp")
			if port == "3301" {
				name = "declared"
			}
			db := m.StartWorkload(t, "--service", name, "--listen", listen)
			if a := db.Do(t, agent.Ask{Do: agent.Greet, Address: "127.0.0.1:" + port, Send: []byte(handshake)}); a.Error != "" {
				t.Fatal(a.Error)
			}
			say := agent.Ask{Do: agent.Say, Address: name + ":" + port, First: true, Wait: 3 * time.Second}
			mesh.Eventually(t, func() string { // until the caller's snapshot knows the service
				if a := caller.Do(t, say); string(a.Body) != handshake {
					return fmt.Sprintf("--listen %s: it says %q, %s", listen, a.Body, a.Error)
				}
				return ""
			})
			began := time.Now()
			if a := caller.Do(t, say); string(a.Body) != handshake {
				t.Errorf("--listen %s: it says %q, %s", listen, a.Body, a.Error)
			}
			t.Logf("--listen %s: the greeting came after %v", listen, time.Since(began))
		}
	})
}

// A real server and its client, where both are installed.
func TestMariaDBAnswersInsideTheMesh(t *testing.T) {
	server, err := exec.LookPath("mariadbd")
	if err != nil {
		t.Skip("mariadbd is missing")
	}
	client, err := exec.LookPath("mariadb")
	if err != nil {
		t.Skip("the client mariadb is missing")
	}
	m := startMachinery(t, mesh.User{Name: "user", UID: -1})
	data, err := os.MkdirTemp("", "mariadb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	// The tables of the grants are not there: nothing but the protocol is looked at.
	args := []string{"run", "--service", "db", "--listen", "3306", "--", server, "--no-defaults", "--skip-grant-tables", "--skip-networking=0",
		"--bind-address=0.0.0.0", "--port=3306", "--datadir=" + data, "--socket=" + filepath.Join(data, "s"), "--pid-file=" + filepath.Join(data, "p"),
		"--skip-name-resolve", "--innodb=OFF", "--default-storage-engine=MyISAM", "--log-error=" + filepath.Join(data, "log")}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root")
	}
	m.Background(t, nil, "sluice", args...)
	mesh.Eventually(t, func() string {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		c := m.Command(ctx, "sluice", "run", "--service", "caller", "--", client, "--no-defaults", "--protocol=tcp", "--host=db", "--connect-timeout=3",
			"--skip-ssl", "--skip-column-names", "--batch", "--execute=select 40+2")
		out, err := c.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "42" {
			log, _ := os.ReadFile(filepath.Join(data, "log"))
			return fmt.Sprintf("%v, %s; the server says %s", err, out, log)
		}
		return ""
	})
}
