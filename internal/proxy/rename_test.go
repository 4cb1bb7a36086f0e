package proxy

import (
	"bufio"
	"testing"

	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/wire"
)

// An ingress answers before the server has named it, and is recorded by its name then.
func TestAWorkloadThatIsRenamedIsRecordedAndFoundByItsNewName(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", hello)
	dial := m.ingress("/.*")
	c := dial()
	r := bufio.NewReader(c)
	for i, name := range []string{"client/1", "client/2", "client/2"} { // the connection lives on
		if err := m.workload.Rename(name); err != nil {
			t.Fatal(err)
		}
		exchange(t, c, r, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		m.closed(uint64(i + 1))
		if f := m.lastFlow(); f.Workload != name {
			t.Errorf("%s is recorded as %s", name, f.Workload)
		}
		if m.peer(name) != m.workload {
			t.Errorf("%s is not found", name)
		}
	}
	if m.peer("client/1") != nil {
		t.Error("its old name is not free")
	}
	if err := m.workload.Rename("details-v1/1"); err == nil || m.workload.Instance() != "client/2" {
		t.Errorf("it has another workload's name: %v", err)
	}
	m.workload.Close()
	if err := m.workload.Rename("client/3"); err != nil || m.peer("client/3") != nil {
		t.Errorf("a workload that is closed is found: %v", err)
	}
	w, err := m.proxy.Attach(t.Context(), WorkloadConfig{Workload: wire.Workload{Instance: "client/2"}, Holder: snapshot.NewHolder(snapshot.HolderConfig{})})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
}
