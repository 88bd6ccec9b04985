# lpipe: what can be made. `make help` lists it.

GO      ?= go
TOOLS   := $(GO) tool -modfile=tools/go.mod
LDFLAGS := -s -w
TAGS    := urfave_cli_no_docs # manual pages are not made; their packages cost start-up time
export CGO_ENABLED ?= 0

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/lpipe, without cgo
	@mkdir -p bin
	$(GO) build -trimpath -tags '$(strip $(TAGS))' -ldflags '$(LDFLAGS)' -o bin/lpipe.new ./cmd/lpipe
	@cp bin/lpipe.new bin/lpipe.copy && mv bin/lpipe.copy bin/lpipe && rm bin/lpipe.new # written whole, it starts faster: ADR 17

.PHONY: demo
demo: build ## a whole project, from rows to a tuned adapter, in build/demo
	@tools/demo.sh

.PHONY: test
test: ## every test, with real S3 servers that it installs itself
	@tools/test.sh

.PHONY: check
check: ## the fast part: format, vet, staticcheck, tests of small size
	@tools/check.sh

.PHONY: fuzz
fuzz: ## every fuzz target, 60 s each, the tokenizer 5 minutes (FUZZTIME=5s for less)
	@tools/fuzz.sh

.PHONY: crash
crash: ## every command killed, without power, on a full or failing disk at each of its changes
	@tools/crash.sh

.PHONY: parity
parity: build ## logits, gradients and training runs beside torch, transformers and PEFT
	@tools/parity.sh

.PHONY: tracking-demo
tracking-demo: build ## the demo's sweep of six, recorded at a real MLflow and checked by its own Python client
	@tools/tracking-demo.sh

.PHONY: tracking-million
tracking-million: ## a million points of metrics through an MLflow server that is killed three times
	@tools/tracking-million.sh

.PHONY: bench-pipeline
bench-pipeline: build ## runner, cache and remote beside ninja, make, git, dud, DVC and others (ROWS="stages files", LARGE=1)
	@tools/bench/pipeline.sh

.PHONY: bench-remote
bench-remote: build ## push and pull beside s5cmd, rclone and DVC, against an S3 server
	@tools/bench/remote.sh

.PHONY: bench-files
bench-files: ## the cache alone, with many and large files, beside bare loops and git
	$(GO) test ./cache -run '^$$' -bench 'ManyFiles|LargeFiles|MillionFiles' -benchtime 1x -v -timeout 60m

.PHONY: bench-tokenizer
bench-tokenizer: build ## the tokenizer, MB/s a core
	@tools/bench/tokenizer.sh

.PHONY: bench-data
bench-data: build ## the data stages: MB/s, rows/s, peak memory; 3 minutes (ROWS="chain pack" for some, LPIPE_BENCH=quick or full)
	@tools/bench/data.sh

.PHONY: bench-exp
bench-exp: build ## what a sweep costs over its stages, exp show of 5,000, the page of 100 runs
	@tools/bench/exp.sh

.PHONY: bench-tracking
bench-tracking: ## what tracking costs a training, beside a real MLflow server
	@tools/bench/tracking.sh

.PHONY: bench-engine
bench-engine: build ## a LoRA step beside torch and PEFT
	@tools/bench/engine.sh

.PHONY: cuda
cuda: ## bin/lpipe-cuda, which computes on NVIDIA GPUs and starts everywhere; its tests without a GPU
	@tools/cuda.sh

.PHONY: arm64
arm64: ## vet and build for arm64, and the engine's tests under an emulator, which it installs; some minutes
	@tools/arm64.sh

.PHONY: amx
amx: ## the kernels of AMX in an emulator, which it builds; some minutes the first time
	@tools/amx.sh

.PHONY: gpu-bundle
gpu-bundle: ## build/gpu-bundle: tests, benchmarks and peers for a machine with a GPU and nothing else (bash run.sh there)
	@tools/gpu/bundle.sh

.PHONY: demo-model
demo-model: build ## the committed tiny model, made again from nothing
	@tools/demo-model.sh

.PHONY: clean
clean: ## remove what was built
	rm -rf bin build
