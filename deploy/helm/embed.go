// Package helm holds the chart of Sluice, for `sluice install`, which renders it without
// Helm. It links nothing; what the chart takes from the folders beside it (links in files)
// is embedded there.
package helm

import "embed"

// Files is the chart without the folder files.
//
//go:embed Chart.yaml values.yaml values.schema.json templates
var Files embed.FS
