# make prints its targets.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X belfry/internal/cli.Version=$(VERSION)
GOBUILD := CGO_ENABLED=0 go build -p 2 -trimpath -ldflags '$(LDFLAGS)'
LINT    := go tool -modfile=tools/go.mod golangci-lint

.PHONY: help build try test crash host bench lint fmt vet check broom clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the binary: bin/belfry
	@$(GOBUILD) -o bin/belfry ./cmd/belfry

try: build ## run the example's nightly batch here, into a local directory
	@cd examples/ttandaudio && PATH="$(CURDIR)/bin:$$PATH" ./try.sh

test: ## install what the tests need and run them all
	@./tools/test.sh

crash: ## kill daemons and keepers for a quarter of an hour, and look whether anything was lost or doubled
	@go test ./internal/crashtest -run Killed -campaign 15m -jobs 20 -timeout 1h -v

host: ## make Debian hosts with a systemd of their own, in the user's cache: deploy to them, be their cron, run the image there; also with dnf, and emulated ones of arm64 and with SELinux
	@go test -p 2 -tags host ./internal/cli -run 'Systemd|Image|Arm64|SELinux|Dnf' -v -timeout 90m

bench: ## measure crontab beside other libraries (bench/README.md)
	@cd bench && go run .

lint: ## look for what a reader would stumble over
	@$(LINT) run ./...

fmt: ## format the sources
	@$(LINT) fmt ./...

vet: ## what can be checked without running anything
	@go vet ./...
	@go vet -tags host ./internal/cli
	@cd bench && go vet ./...
	@go mod tidy -diff
	@CGO_ENABLED=0 GOARCH=arm64 go build -p 2 -o /dev/null ./cmd/belfry
	@CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 go build -p 2 -o /dev/null ./cmd/belfry
	@CGO_ENABLED=0 GOOS=darwin GOARCH=amd64 go build -p 2 -o /dev/null ./cmd/belfry
	@GOOS=darwin GOARCH=arm64 go vet ./...
	@GOOS=darwin GOARCH=amd64 go vet ./...
	@go vet -tags portable ./...
	@$(MAKE) --no-print-directory lint

check: test vet ## all that a change must pass

broom: ## now and then: what could be newer, what is dead, a minute of fuzzing for each parser
	@go fix -diff ./... || true
	@go tool -modfile=tools/go.mod deadcode -test ./...
	@for target in FuzzParse FuzzParseSchedule FuzzAssignment; do go test ./crontab -run NONE -fuzz "^$$target$$" -fuzztime 1m; done
	@go test ./internal/project -run NONE -fuzz '^FuzzParse$$' -fuzztime 1m -fuzzminimizetime 5x

clean: ## remove what was built and what make try left
	@rm -rf bin examples/ttandaudio/.belfry examples/ttandaudio/lake
