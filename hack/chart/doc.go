// Package chart holds the chart of deploy/helm against Helm itself: its linter, its engine
// and its judgement of values, which must be those of sluice install. `make test-chart` runs
// it; it is a module of its own, so that Sluice links nothing of Helm.
package chart
