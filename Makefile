# Everything runs in .venv, made at need; nothing is installed outside this folder.
.DEFAULT_GOAL := help
.PHONY: help install test test-slow lint type format features demo bench bench-made starter word-vectors clean

PYTHON ?= python3
BIN := .venv/bin
CLIPS ?= ../shared/clips
DATASET ?= videos
DATA ?=
OUT ?= out
# weights and clips that lie beside the project, where they do
ifneq ($(wildcard ../shared/weights),)
export TAL_RUN_WEIGHTS ?= $(abspath ../shared/weights)
endif

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-14s %s\n", $$1, $$2}'

install: .venv/.installed ## Make .venv and install tal-run and its tools into it

.venv/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

test: install ## Run the tests
	$(BIN)/python -m pytest $(ARGS)

test-slow: install ## Run the whole-pipeline tests on real video too (minutes)
	$(BIN)/python -m pytest --run-slow $(ARGS)

lint: install ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: install ## Check types
	$(BIN)/mypy

format: install ## Mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# a data set that tal-run knows goes by its name, any other by its folder
features: install ## Save features of a data set: make features DATASET=name DATA=folder
	@if [ -z '$(DATA)' ] && [ '$(DATASET)' = videos ] && [ ! -e videos ]; then \
		echo 'say which videos: make features DATASET=name [DATA=folder], or DATA=folder' >&2; exit 2; fi
	@if $(BIN)/tal-run datasets list --names | grep -qxF -- '$(DATASET)'; then set -- --dataset '$(DATASET)' $(DATA); \
	else set -- $(or $(DATA),$(DATASET)); fi; \
	$(BIN)/tal-run features "$$@" -o '$(OUT)/features/$(notdir $(DATASET:%/=%))' $(ARGS)

demo: install ## Find the long jumps in the video that comes with tal-run; results and a page go to out/demo
	@mkdir -p $(OUT)/demo
	@cp pipeline/data/athletics.mp4 $(OUT)/demo/
	$(BIN)/tal-run detect $(OUT)/demo/athletics.mp4 --backbone starter --query "long jump" \
		-o $(OUT)/demo/athletics.json -o $(OUT)/demo/athletics.html
	@echo 'open $(OUT)/demo/athletics.html in a browser'

bench: install ## Measure localization, flow, networks, speed and memory on real clips: make bench CLIPS=folder
	$(BIN)/python tests/benchmarks/speed.py --clips $(CLIPS)
	$(BIN)/python tests/benchmarks/untrimmed.py --clips $(CLIPS)
	$(BIN)/python tests/benchmarks/flow.py --clips $(CLIPS)
	$(BIN)/python tests/benchmarks/backbones.py

bench-made: install ## Measure the starter in made video, 60 untrimmed videos a look (a quarter of an hour on two cores)
	$(BIN)/python tests/benchmarks/made_video.py $(ARGS)

# Threads that wait without spinning take turns with what draws and decodes; memory that is kept, in large pages, need not be
# cleared again for each batch: together a third faster.
starter: install ## Train the network that comes with tal-run anew, on made video (an hour on two cores)
	OMP_WAIT_POLICY=PASSIVE MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
		$(BIN)/python -m tal_run.pipeline.train_starter $(ARGS)

word-vectors: install ## Make the shipped word vectors anew
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[distil]'
	$(BIN)/python -m tal_run.pipeline.distil_words pipeline/data/minilm_l6_words.bin.gz

clean: ## Remove everything that was made
	rm -rf .venv out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
