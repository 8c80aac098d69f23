# Everything runs in .venv, made at need; nothing is installed outside this folder.
.DEFAULT_GOAL := help
.PHONY: help install test test-slow lint type format features demo bench bench-made fuzz kill methods starter starter-curves opencv-cuda word-vectors \
	reproduce reference docs clean

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
	$(BIN)/python tests/benchmarks/two_streams.py --clips $(CLIPS)
	$(BIN)/python tests/benchmarks/evaluation.py
	$(BIN)/python tests/benchmarks/batch.py

bench-made: install ## Measure the starter in made video, 60 untrimmed videos a look (a quarter of an hour on two cores)
	$(BIN)/python tests/benchmarks/made_video.py $(ARGS)

# Files: damaged videos through the decoder process, other files through their readers, and videos in one batch. Each is drawn by
# its number and SEED, so that what is found can be found again (tests/tools/fuzz.py).
FILES ?= 10000
SEED ?= 0
fuzz: install ## Have tal-run read damaged files, and say what came of them (minutes): make fuzz FILES=10000 SEED=0
	$(BIN)/python tests/tools/fuzz.py videos --files $(FILES) --seed $(SEED) -o $(OUT)/fuzz $(ARGS)
	$(BIN)/python tests/tools/fuzz.py readers --files $(FILES) --seed $(SEED) -o $(OUT)/fuzz
	$(BIN)/python tests/tools/fuzz.py batch --files 500 --seed $(SEED) -o $(OUT)/fuzz

methods: install ## Show that the methods do what their papers say: make methods CLIPS=folder (90 minutes on two cores)
	$(BIN)/python tests/benchmarks/methods.py $(OUT)/methods --clips $(CLIPS) $(ARGS)

# Threads that wait without spinning take turns with what draws and decodes; memory that is kept, in large pages, need not be
# cleared again for each batch: together a third faster.
starter: install ## Train the network that comes with tal-run anew, on made video (an hour on two cores)
	OMP_WAIT_POLICY=PASSIVE MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
		$(BIN)/python -m tal_run.pipeline.train_starter $(ARGS)

starter-curves: install ## Train what reads the starter's scores over time, after `make starter` (a quarter of an hour on two cores)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m tal_run.pipeline.train_curves $(ARGS)

# nvcc (CUDA_HOME or PATH), a C++ compiler that it takes (CUDAHOSTCXX) and the GPU's architecture: 8.0 is an A100, 9.0 an H100.
# Only what tal-run asks of OpenCV is built, from the registry's source package; the wheel stays in out/opencv-cuda.
CUDA_ARCH ?= 8.0
OPENCV_MODULES := core,imgproc,imgcodecs,video,features,geometry,flann,ximgproc,optflow,cudev,cudaarithm,cudafilters,$\
	cudaimgproc,cudawarping,cudafeatures2d,cudaoptflow,python3,python_bindings_generator
opencv-cuda: install ## Build OpenCV with its CUDA flow and install it (an hour or more): make opencv-cuda CUDA_ARCH=8.0
	@command -v nvcc >/dev/null || { echo 'nvcc is missing: install the CUDA toolkit and put its bin folder into PATH' >&2; exit 2; }
	ENABLE_CONTRIB=1 ENABLE_HEADLESS=1 CMAKE_ARGS="-DWITH_CUDA=ON -DCUDA_ARCH_BIN=$(CUDA_ARCH) -DCUDA_ARCH_PTX= \
		-DBUILD_LIST=$(OPENCV_MODULES) -DWITH_CUDNN=OFF -DWITH_NVCUVID=OFF -DWITH_NVCUVENC=OFF -DWITH_FFMPEG=OFF" \
		$(BIN)/python -m pip wheel --no-deps --no-binary opencv-contrib-python-headless -w $(OUT)/opencv-cuda \
		opencv-contrib-python-headless
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps $(OUT)/opencv-cuda/*.whl
	$(BIN)/python -c "import cv2; assert hasattr(cv2, 'cuda_OpticalFlowDual_TVL1'), 'built without CUDA: see the log above'"

# ARGS='--ray --kills 20': on a Ray cluster of three nodes on this machine, which are killed too
kill: install ## Kill tal-run batch and its workers at 200 random moments; what comes of it must be the same
	$(BIN)/python tests/tools/kill_batch.py $(ARGS)

word-vectors: install ## Make the shipped word vectors anew
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[distil]'
	$(BIN)/python -m tal_run.pipeline.distil_words pipeline/data/minilm_l6_words.bin.gz

reproduce: install ## Write docs/reproduce.md anew, from pipeline/data/experiments
	$(BIN)/python -m tal_run.pipeline.experiment_page

reference: install ## Write docs/reference/cli.md anew, from the commands' help
	$(BIN)/python -m tal_run.pipeline.cli_page

docs: reference reproduce ## Build the documentation as a site in out/site; it needs no network to be read
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/python -m mkdocs build --quiet --strict --site-dir '$(OUT)/site'
	@echo 'open $(OUT)/site/index.html in a browser; with a search: python3 -m http.server --directory $(OUT)/site'

clean: ## Remove everything that was made
	rm -rf .venv out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
