# ReaSeq: `make demo` runs everything on the embedded shop, `make test` runs the fast tests. Both set up what they need.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
REASEQ := .venv/bin/reaseq
export PYTHONUNBUFFERED := 1
# PyTorch threads that spin while they wait would take the cores from whatever else runs.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: site pictures data style-report reachability help setup demo serve dashboard test test-all test-containers lint format compile docs bench bench-data bench-knowledge bench-behavior bench-ranker bench-serving bench-loop bench-monitoring bench-kubeflow bench-demo check-baselines clean

help: ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: ## Make the environments (.venv, .venv-triton) from the lock files
	@scripts/setup.sh main
	@scripts/setup.sh triton

demo: ## Set up, run the whole pipeline on the embedded shop, serve it, send traffic, write the reports
	@scripts/demo.sh $(ARGS)

serve: setup ## Serve what the last demo deployed (Triton and gateway in the foreground)
	@$(REASEQ) serve

dashboard: setup ## Open the drift and lift dashboards of the last demo on http://127.0.0.1:8085
	@$(REASEQ) dashboard --port 8085

test: ## Set up and run the fast tests
	@scripts/setup.sh dev
	@$(PYTHON) -m pytest tests/unit -n 2 --dist loadfile

test-all: setup ## Every test: fast, integration (real servers) and end to end
	@scripts/setup.sh dev
	@REASEQ_MESSY_LOGS=10000 $(PYTHON) -m pytest -n 2 --dist loadfile --hypothesis-profile search tests/unit tests/integration tests/e2e

test-containers: setup ## Steps and servers in their images (Docker, or Podman as root; scripts/build_images.sh makes the images)
	@scripts/setup.sh dev
	@$(PYTHON) -m pytest tests/containers

lint: ## ruff and mypy (strict on the library)
	@scripts/setup.sh dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

format: ## Format and mend what ruff can mend
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

compile: setup ## Compile the pipelines into pipelines/compiled
	@$(REASEQ) compile

docs: setup ## Generate component READMEs, the configuration reference and the result tables
	@$(PYTHON) scripts/generate_docs.py

site: ## Build the documentation into site/ (fails on a warning)
	@scripts/setup.sh docs
	@.venv-docs/bin/zensical build --strict
	@echo "open site/index.html"

reachability: setup ## Print who reaches whom under each overlay, and why not (needs kubectl, no cluster)
	@$(PYTHON) -m infra.reachability $(ARGS)

pictures: ## Draw the system (needs graphviz) and take the dashboard's picture (needs chromium)
	@dot -Tsvg docs/pictures/system.dot -o docs/pictures/system.svg
	@$(PYTHON) scripts/take_screenshots.py

data: ## Convert the public data sets that benchmarks read: make data ARGS="electronics --clone FOLDER"
	@$(if $(ARGS),$(PYTHON) scripts/convert_public_data.py $(ARGS),cat docs/how-to/get-the-data.md)

style-report: ## Print how readable the code is (ARGS=--write keeps the figures)
	@$(PYTHON) scripts/style_report.py $(ARGS)

bench: bench-data bench-knowledge bench-behavior bench-ranker bench-serving bench-loop bench-monitoring bench-kubeflow bench-demo ## Every benchmark (writes benchmarks/results/*.json)

bench-data: setup ## Messy exports, public cases, what ingestion costs
	@scripts/setup.sh dev
	@$(PYTHON) -m benchmarks data $(ARGS)

bench-knowledge: setup ## Knowledge over raw text, the student, cost and safety of distillation
	@$(PYTHON) -m benchmarks knowledge $(ARGS)

bench-behavior: setup ## Inferred behaviors against their peers: hidden behaviors, ranker, other shops, speed
	@$(PYTHON) -m benchmarks behavior $(ARGS)

bench-ranker: setup ## The ranker: its ladder of enhancements, other libraries' rankers, cost, scoring speed, calibration
	@scripts/setup.sh ranker-peers
	@$(PYTHON) -m benchmarks ranker $(ARGS)

bench-serving: setup ## The serving side: latency, throughput, materialization, faults, fuzzing, switches, degraded answers
	@scripts/setup.sh fuzz
	@$(PYTHON) -m benchmarks serving $(ARGS)

bench-loop: setup ## What rankers earn on simulated pages by the exact truth, the gate, rounds of the loop, when reasoning pays
	@scripts/setup.sh dev
	@OMP_NUM_THREADS=1 $(PYTHON) -m benchmarks loop $(ARGS)

bench-monitoring: setup ## Lift, plans and decisions on experiments whose truth is known; ten million exposures
	@OMP_NUM_THREADS=1 $(PYTHON) -m benchmarks monitoring $(ARGS)

bench-kubeflow: setup ## An empty cluster, nights of refreshes, a failing API, policies, alerts, a hundred deployments
	@scripts/setup.sh dev
	@scripts/get_tools.sh
	@PATH="$$PWD/.tools/bin:$$PATH" $(PYTHON) -m benchmarks kubeflow $(ARGS)

bench-demo: ## The demo from a clean clone: set-up, main job, peak memory
	@$(PYTHON) -m benchmarks demo $(ARGS)

check-baselines: ## Compare benchmarks/results with benchmarks/baselines.json
	@$(PYTHON) -m benchmarks.shared.baselines

clean: ## Remove artifacts, caches and stores of local runs (not the environments)
	rm -rf .reaseq
