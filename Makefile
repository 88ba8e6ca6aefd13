.DEFAULT_GOAL := help
.PHONY: help demo test test-nat race lint fuzz bench bench-store soak proto chat scale scale-10k

help: ## Print this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Watch a community live on its own shard, and a stranger fail to disturb it
	@scripts/demo

test: ## Run the tests, as CI does
	@scripts/test

test-nat: ## Run nodes behind real NATs, in network namespaces: takes Linux and root (LONG=1)
	@scripts/test-nat

race: ## Run the tests ten times, shuffled, with the race detector (ROUNDS=10)
	@scripts/race

lint: ## Check formatting, vet, staticcheck, go.mod and generated code
	@scripts/lint

fuzz: ## Fuzz every decoder (FUZZTIME=2m each, PKG=./... to narrow)
	@scripts/fuzz

bench: ## Run the benchmarks (PKG=./... to narrow, COUNT=1)
	@scripts/bench

bench-store: ## Measure the Store beside today's fleet layout (an hour; ARGS=-quick: two minutes)
	@scripts/bench-store

scale: ## Simulate a shard of N=1000 members with every profile, and draw a page
	@scripts/scale

scale-10k: ## The same with 10,000 members at full load (a quarter of an hour each on two idle cores; 16 GiB)
	@N=10000 LOAD=10s MEMORY=14 PROFILES="$${PROFILES:-default}" scripts/scale

soak: ## Run the long resource tests: CPU, latency and memory under attack
	@scripts/soak

proto: ## Generate internal/pb anew
	@scripts/proto

chat: ## Build bin/chat, bin/servicenode, bin/history, bin/light, bin/holepunch and bin/crawl
	@scripts/programs chat servicenode history light holepunch crawl
