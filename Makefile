VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.DEFAULT_GOAL := help
# As it is shipped, and what is compiled for one target serves the others.
export CGO_ENABLED := 0
.PHONY: help build test test-agent soak crowd race fuzz lint demo faults bench test-versions clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

build: ## bin/walship, static
	go build -trimpath -tags urfave_cli_no_docs -ldflags '-X main.version=$(VERSION)' -o bin/walship ./cmd/walship

test: ## all tests, on a real PostgreSQL and real SFTP servers; installs them if need be
	scripts/deps test
	scripts/go-test ./... -timeout 60m

# The tests of push and fetch that go through servers and sites of their own.
AGENT_TESTS = ^Test(ArchiveUnderLoad|SegmentSizes|Outage|StandbyOutlives|FailoverWithout|ForkGuard|GapGuard|CloneGuard|GuardsPass|StopWhile|MissOnAStandby|PushToSeveral|CloneGuardOverSeveral|FetchFromSeveral|GuardsOverSeveral|RecoveryFromSeveral|FailoverWithOne)

test-agent: ## the tests of push and fetch with an agent, and with agents killed at random moments
	scripts/deps test
	scripts/go-test ./integration -timeout 30m -run '$(AGENT_TESTS)' -args -agent auto
	scripts/go-test ./integration -timeout 30m -run '$(AGENT_TESTS)' -args -agent kill

soak: ## ten minutes of everything at once, with the agent; SOAK=1m for less
	scripts/deps test
	go test -tags soak -count=1 -v -timeout 40m -run Soak ./integration -soak $(SOAK)

SOAK ?= 10m

crowd: ## 24 that push and 24 that fetch at once, five minutes with the agent and five without; CROWD=1m for less
	scripts/deps test
	go test -count=1 -v -timeout 60m -run Crowd ./integration -crowd $(CROWD)

CROWD ?= 5m

# What is done at once: the agent, crowds, several archives.
RACE_TESTS = Agent|Crowd|Several|ArchiveUnderLoad|Outage|ForkGuard|GapGuard|TestBackup|TestRestore|TestSync|TestVerify|TestPrune

race: ## the tests with the race detector, in walship itself too (needs a C compiler); of integration RACE_TESTS
	scripts/deps test
	CGO_ENABLED=1 scripts/go-test "$$(go list ./... | grep -v /integration | tr '\n' ' ')" -race -timeout 60m
	CGO_ENABLED=1 scripts/go-test ./integration -race -timeout 60m -run '$(RACE_TESTS)'

FUZZTIME ?= 10m
fuzz: ## every parser against made-up input, each for FUZZTIME; FUZZ=NAME: those alone
	scripts/deps test
	scripts/fuzz '$(FUZZTIME)' '$(FUZZ)'

lint: ## gofmt, vet, staticcheck, errcheck and the import arrows
	scripts/deps lint
	scripts/lint

LAYOUT ?= host
demo: ## the main job, told as a story; LAYOUT=primary: with the archive on the primary
	scripts/deps demo
	@go run ./integration/demo -layout='$(LAYOUT)'

N ?= 1000
SEED ?= 1
AGENT ?= false
faults: ## N random histories from SEED on, against an archive that misbehaves
	scripts/deps test
	go test -count=1 -v -timeout 0 -run TestHistories ./integration/faults -histories=$(N) -seed=$(SEED) -agent=$(AGENT)

bench: ## push, fetch, backup and restore against scp, rsync, zstd | ssh and pg_basebackup
	scripts/deps bench
	go test -tags bench -count=1 -v -timeout 90m ./integration/bench

test-versions: ## push, fetch, failover, backup and restore on PostgreSQL 10 to 18, from npm
	scripts/deps test
	scripts/pg-versions 10 12 14 16 17 18
	scripts/go-test "./internal/testpg ./internal/pgserver ./integration" -tags versions -timeout 30m -run Versions

clean: ## removes what the targets have built and downloaded here
	rm -rf bin .cache
