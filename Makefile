# Everything a developer needs is listed by `make help`.
# CGO is off so that the binaries are static and no C compiler is needed; the race
# detector alone wants one.
export CGO_ENABLED ?= 0
# The toolchain of go.mod is fetched where the installed Go is older, even where an
# image of Go says otherwise; GOTOOLCHAIN=local on the command line keeps it out.
export GOTOOLCHAIN := auto
GO       ?= go
BIN      := bin
FUZZTIME ?= 30s
PREFIX   ?= /usr/local
ARCH     ?= amd64,arm64
DESTDIR  ?=
# What make test tests, and how much make test-newcomer types: sample, all or cold.
PACKAGES ?= ./...
NEWCOMER ?= all
# One package's tests at most; the end-to-end ones build the binaries first.
PATIENCE ?= 30m

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build every binary into bin/ (the first time takes minutes)
	@GO=$(GO) BIN=$(BIN) hack/build.sh

.PHONY: demo
demo: build ## run Bookinfo behind Sluice with a small internet; INTERNET=real uses the real one
	@$(BIN)/sluice demo $(if $(INTERNET),--internet $(INTERNET))

.PHONY: test
test: ## run every test, or those of PACKAGES; a test whose program is missing is skipped and says so with go test -v
	$(GO) test -timeout $(PATIENCE) $(PACKAGES)

.PHONY: test-newcomer
test-newcomer: ## type README and guide in a bare Debian (as root, needs debootstrap; NEWCOMER=sample|all|cold)
	SLUICE_NEWCOMER=$(NEWCOMER) $(GO) test -count=1 -v -timeout 90m ./test/newcomer

.PHONY: test-systemd
test-systemd: ## boot a bare Debian and try the units under its systemd (as root, needs debootstrap)
	SLUICE_SYSTEMD=1 $(GO) test -count=1 -v -timeout $(PATIENCE) -run TestTheUnitsUnderASystemdThatBooted ./test/install

.PHONY: test-clients
test-clients: ## run every client of the table, fetching those that are missing (as root by apt-get too)
	$(GO) run ./test/clients/install
	SLUICE_CLIENTS=all $(GO) test -count=1 -timeout $(PATIENCE) -run Client ./test/clients

.PHONY: check
check: lint race fuzz ## lint, the race detector, FUZZTIME (30s) of each fuzz test

.PHONY: race
race: ## run the tests under the race detector, shuffled (needs a C compiler), but those below test/, whose programs are built without it
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout $(PATIENCE) $$($(GO) list ./... | grep -v /test)

.PHONY: fuzz
fuzz: ## run each fuzz test for FUZZTIME (30s)
	@GO=$(GO) hack/fuzz.sh $(FUZZTIME)

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, and whether generated files are fresh
	@hack/lint.sh

.PHONY: generate
generate: ## write the CRDs, the deep copies and the reference anew
	@hack/generate.sh

.PHONY: attack
attack: build ## try to get out of a sandbox, in every way that we know, as whom we can
	@$(BIN)/attack -sluice $(BIN)/sluice

.PHONY: test-h2spec
test-h2spec: ## the 145 cases of h2spec against the engine of HTTP/2
	mkdir -p bin && GOBIN=$(CURDIR)/bin $(GO) install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
	SLUICE_H2SPEC=$(CURDIR)/bin/h2spec $(GO) test -count=1 -v -run TestH2spec ./internal/proxy/http2

.PHONY: flood
flood: ## flood the proxy with HTTP/2 for FLOOD (60s) in each way, and hold its memory and a neighbour's calls
	SLUICE_FLOOD=$(or $(FLOOD),60s) $(GO) test -count=1 -v -timeout $(PATIENCE) -run TestAFloodOfHTTP2CostsNeitherMemoryNorANeighbour ./test

.PHONY: test-kube
test-kube: build ## try the server's API with the real kubectl, and Sluice on the real API server of Kubernetes (8 minutes and 5 GB of build cache the first time)
	cd test/kube && $(GO) run ./build && $(GO) vet ./... && $(GO) test -count=1 -p 1 -timeout $(PATIENCE) ./...

.PHONY: test-node
test-node: build ## try on a real cluster of one node what kubectl shows, that no request fails while servers are killed and rolled out, and names (as root; needs what demo-kube does)
	$(MAKE) images ARCH=$(shell $(GO) env GOARCH)
	cd test/kube && $(GO) run ./build -node && $(GO) test -count=1 -v -timeout $(PATIENCE) ./home

.PHONY: demo-kube
demo-kube: build ## play the article with kubectl on a real cluster of one node, in namespaces of its own (as root; needs containerd, runc and CNI plugins)
	$(MAKE) images ARCH=$(shell $(GO) env GOARCH)
	cd test/kube && $(GO) run ./build -node && $(GO) test -count=1 -v -timeout $(PATIENCE) ./article

.PHONY: test-chart
test-chart: ## hold the chart of deploy/helm against Helm's own linter and engine
	cd hack/chart && $(GO) vet ./... && $(GO) test -count=1 -timeout $(PATIENCE) ./...

.PHONY: images
images: ## write the images of the server and of the proxy as OCI archives into bin/images, without Docker (HUB=, TAG=, ARCH=)
	@cd hack/images && $(GO) run . -source ../.. -out $(abspath $(BIN))/images -hub $(or $(HUB),sluice.dev) -arch $(ARCH) -tag $(or $(TAG),$(shell git describe --tags --always --dirty 2>/dev/null || echo devel))

.PHONY: test-images
test-images: ## hold that an image is the same whoever builds it, where and when
	cd hack/images && $(GO) vet ./... && $(GO) test -count=1 -timeout $(PATIENCE) ./...

.PHONY: test-kernels
test-kernels: ## boot Debian 12's kernels in an emulator and try the sandbox there (needs qemu and apt; KERNELS='-arch arm64 -v')
	@$(GO) run ./test/kernels $(KERNELS)

.PHONY: man
man: ## write the manual pages of what make build built into bin/man
	@GO=$(GO) BIN=$(BIN) hack/man.sh

.PHONY: install
install: ## copy programs (built first where one is missing), manual pages, completions and units below PREFIX=/usr/local (DESTDIR= is put before it)
	@GO=$(GO) BIN=$(BIN) PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) hack/install.sh install

.PHONY: uninstall
uninstall: ## remove exactly what install copied there
	@PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) hack/install.sh uninstall

.PHONY: bench
bench: build ## measure Sluice and its peers (Debian's haproxy where installed)
	@$(GO) run ./bench

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN) .build
