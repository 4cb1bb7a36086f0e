package kubeapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"sluice.dev/sluice/internal/atomicfile"
	"sluice.dev/sluice/internal/format"
)

// storeFile, in the data folder, says of what format the rules in the store are. It
// is missing from a folder of the first format.
const storeFile = "store.json"

// storeFormat is the format of the rules that this build writes. It is raised when a
// kind gains a field or a value that an earlier build would drop or refuse: a rule
// that lost a restriction would allow more.
//
//	1: the first
//	2: an EgressPolicy lists upgrades; the outbound default may be Audit, and be
//	   another for some namespaces
//	3: a MeshConfig has limits; a port of an EgressPolicy has an idle time-out, its TLS
//	   an oldest version and a client certificate, and the policy a rate of new names; a
//	   port of a MeshService without a protocol, which was http, is what a client says
//	4: a RouteRule redirects, rewrites, injects faults, appends headers, and bounds and
//	   repeats requests; a MeshConfig lets Pods bypass their proxy; a
//	   port of an EgressPolicy leads to another outside; DestinationPolicies; IngressRules and Ingresses
const storeFormat = 4

// maxStoreFile bounds the file, in bytes.
const maxStoreFile = 4096

var stores = format.Kind{Name: "the store of rules", Oldest: 1, Newest: storeFormat}

// checkFormat refuses a store that a later release wrote, before anything of it is
// opened.
func checkFormat(dataDir string) error {
	path := filepath.Join(dataDir, storeFile)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the format of the store: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxStoreFile))
	if err != nil {
		return fmt.Errorf("read the format of the store: %w", err)
	}
	var unknown *format.UnknownError
	switch err := stores.CheckJSON(b); {
	case errors.As(err, &unknown):
		return fmt.Errorf("%s: %w, or choose another data folder with --data-dir; nothing was changed", path, err)
	case err != nil:
		return fmt.Errorf("%s: %w: remove the file where no later release used this folder, else restore it from a copy", path, err)
	}
	return nil
}

// writeFormat says that the rules are of this build's format from now on. An
// earlier build then refuses the store.
func writeFormat(dataDir string) error {
	path := filepath.Join(dataDir, storeFile)
	said, err := json.Marshal(format.Version{Format: storeFormat})
	if err != nil {
		return err
	}
	if held, err := os.ReadFile(path); err == nil && string(held) == string(said) {
		return nil
	}
	if err := errors.Join(atomicfile.Sweep(path), atomicfile.WriteBytes(path, 0o600, said)); err != nil {
		return fmt.Errorf("note the format of the store: %w", err)
	}
	return nil
}
