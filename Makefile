# A fresh Debian with Go, git and make needs nothing more: `make run` and `make test` install the rest.

TOOL := go tool -modfile=internal/tools/go.mod
# What reads compose.yaml and Kubernetes' manifests, in a module of its own: it is big.
MANIFESTS := go tool -modfile=internal/tools/manifests/go.mod
SETUP := internal/tools/setup.sh
FUZZTIME ?= 1m
# Flags of chaos: CHAOS='-seed 7 -for 5m -browsers 300 -faults kill,cut -journal FILE'
CHAOS ?=
# Flags of bench: BENCH='-rounds 3 -quick'
BENCH ?=
# PG=13 to PG=18 takes that version's PostgreSQL, fetched where it isn't installed.
WITH_PG = $(if $(PG),PG_BIN=$$(internal/tools/postgresql.sh '$(PG)') && export PG_BIN &&)

.DEFAULT_GOAL := help
.PHONY: help run test e2e-proxy lint generate fuzz chaos soak bench screenshots build release setup

help: ## list these targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: ## the whole thing on this machine: database, two instances, a WeChat to scan with
	@$(SETUP) postgresql
	$(WITH_PG) go run ./cmd/scanlogin dev

test: ## every test, on a real PostgreSQL and in a real browser
	@$(SETUP) postgresql compiler chromium haproxy nginx caddy systemd pgbouncer prometheus
	$(WITH_PG) go test -race -shuffle=on -timeout 6m ./...

lint: ## what CI holds the code to
	@files=$$($(TOOL) gofumpt -l .) && test -z "$$files" || { echo "not formatted, run '$(TOOL) gofumpt -w .':" "$$files" >&2; exit 1; }
	go vet ./...
	$(TOOL) golangci-lint run
	@dead=$$($(TOOL) deadcode -test ./...) && test -z "$$dead" || { echo "dead code:" "$$dead" >&2; exit 1; }
	@old=$$(go fix -diff ./...) && test -z "$$old" || { echo "older idioms, run 'go fix ./...':" "$$old" >&2; exit 1; }
	$(TOOL) sqlc diff -f sql/sqlc.yaml
	go mod tidy -diff
	$(MANIFESTS) kubectl-validate --version 1.30 docs/deploy/kubernetes.yaml
	cd internal/tools && go mod tidy -diff
	cd internal/tools/manifests && go mod tidy -diff

generate: ## internal/postgres/pgstore from sql/, and what the next version has to leave working
	$(TOOL) sqlc generate -f sql/sqlc.yaml
	UPDATE_STATEMENTS=1 go test -count=1 -run '^TestEveryStatementIsKeptForTheNextVersion$$' ./internal/postgres

e2e-proxy: ## of the tests, those of docs/deploy: nginx, Caddy and HAProxy before two instances
	@$(SETUP) postgresql compiler haproxy nginx caddy
	$(WITH_PG) go test -race -v -run '^(TestProxy|TestDeploy)' ./internal/e2e

fuzz: ## every fuzz target for FUZZTIME
	@set -e; for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$package; \
		done; \
	done

soak: ## an hour of churn at 15,000 streams: nothing may have grown by its end
	@$(SETUP) postgresql
	$(WITH_PG) go run ./internal/bench -docs docs $(BENCH) soak

chaos: ## crashes, deploys, failover and cuts at random for minutes: nothing may be lost
	@$(SETUP) postgresql haproxy
	$(WITH_PG) go run ./internal/e2e/chaos $(CHAOS)

bench: ## ours beside floors and peers, all of it: about half an hour, into docs/performance.md
	@$(SETUP) postgresql nchan
	$(WITH_PG) go run ./internal/bench -docs docs $(BENCH)

# Only one of them: claim, stream, push, callback, first-qr.
bench-%:
	@$(SETUP) postgresql nchan
	$(WITH_PG) go run ./internal/bench -docs docs $(BENCH) $*

screenshots: ## docs/images, taken anew
	@$(SETUP) postgresql chromium
	go run ./internal/e2e/screenshots docs/images

build: ## bin/scanlogin, one static file
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/scanlogin ./cmd/scanlogin

release: ## dist/: archives for linux, checksums and bills of materials, of what is committed
	rm -rf dist
	go run ./internal/release

setup: ## install what run, test and screenshots need
	@$(SETUP) postgresql compiler chromium haproxy nginx caddy systemd pgbouncer prometheus
