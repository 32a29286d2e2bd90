# Easel. The two commands of a new user are `make demo` and `make test`; each does all of its own set-up on a machine that has Rust, Python 3 with pip,
# make and a C compiler.
PYTHON ?= python3
CARGO ?= cargo
TOOLS := .tools
ORT := $(TOOLS)/onnxruntime/.unpacked
PY := $(TOOLS)/python/bin/python
PROMPT ?= an armchair in the shape of an avocado

.PHONY: demo test test-deploy test-large serve bench peers evaluate lint onnxruntime python recipe-python families-python clean help

help: ## this text
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: onnxruntime ## draw PROMPT ("an armchair in the shape of an avocado") with the embedded model into out/
	$(CARGO) build --release --locked
	target/release/easel generate "$(PROMPT)" --candidates 32 --keep 8 --seed 7

serve: onnxruntime ## run all five services in the foreground, the gateway on 127.0.0.1:50050
	$(CARGO) build --release --locked
	target/release/easel serve

test: onnxruntime python families-python ## every test: Rust, Python, the recipe, other projects' models
	$(CARGO) fetch --locked
	$(CARGO) build --workspace --all-targets --locked
	$(CARGO) test --workspace --locked
	tests/gpu/run --dry
	PYTHONPATH=clients/python/src $(PY) -m pytest -q clients/python
	PYTHONPATH=clients/python/src $(TOOLS)/recipe/bin/python -m pytest -q -rs models/scenes/recipe/tests models/scenes/evaluation/tests
	OMP_NUM_THREADS=1 $(TOOLS)/recipe/bin/python -m pytest -q --disable-warnings tests/families

test-large: onnxruntime families-python ## a model of 1.8 billion parameters imported and served: minutes, 5 GB of disk
	$(CARGO) build --release --locked
	OMP_NUM_THREADS=1 $(TOOLS)/recipe/bin/python -m pytest -q -s --disable-warnings tests/families/large.py

test-deploy: onnxruntime python ## the compose file started, manifests and alerts checked (Debian, root, podman, kubectl)
	$(CARGO) build --workspace --all-targets --locked
	PYTHONPATH=clients/python/src $(PY) -m pytest -q deploy/tests

bench: onnxruntime ## the benchmarks of BENCHMARKS.md; beside others' engines where `make peers` installed them
	$(CARGO) build --release --locked
	target/release/easel bench engine --geometry M --weights q4 --pictures 1,8
	target/release/easel bench engine --geometry S --weights q4 --batches 1 --pictures 1,16
	target/release/easel bench engine --geometry S --weights q4 --batches 1 --arrivals 32
	target/release/easel bench engine models/scenes/package --batches 1,2,4,8,16 --pictures 1 --guess-rows 8
	if [ -x $(TOOLS)/peers/bin/python ]; then $(TOOLS)/peers/bin/python tests/peers --geometry M; fi
	$(CARGO) bench --locked -p easel-tests --bench overhead
	$(CARGO) bench --locked -p easel-tests --bench overhead -- --geometry M

peers: $(TOOLS)/peers/.installed ## a Python environment with the engines that `make bench` compares with: 2 GB
$(TOOLS)/peers/.installed: tests/peers/requirements.txt
	$(PYTHON) -m venv $(TOOLS)/peers
	$(TOOLS)/peers/bin/python -m pip install --quiet --disable-pip-version-check -r tests/peers/requirements.txt
	@touch $@

evaluate: onnxruntime $(TOOLS)/evaluation/.installed ## EVALUATION.md of the embedded model: hours, and it goes on where it was stopped
	$(CARGO) build --release --locked
	cd models/scenes && OMP_NUM_THREADS=1 ../../$(TOOLS)/evaluation/bin/python -m evaluation

lint: python ## formatting, clippy, docs, the contract
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	$(TOOLS)/python/bin/buf lint proto

onnxruntime: $(ORT) ## fetch the pinned ONNX Runtime library
$(ORT): tools/onnxruntime.txt tools/fetch-onnxruntime
	$(PYTHON) tools/fetch-onnxruntime $(TOOLS)/onnxruntime
	@touch $@

python: $(TOOLS)/python/.installed ## a Python environment with what the tests and linters need
$(TOOLS)/python/.installed: tools/python.txt
	$(PYTHON) -m venv $(TOOLS)/python
	$(PY) -m pip install --quiet --disable-pip-version-check -r tools/python.txt
	@touch $@

recipe-python: $(TOOLS)/recipe/.installed ## a Python environment for the embedded model's recipe on the CPU: a minute or two, 1.6 GB
$(TOOLS)/recipe/.installed: tools/recipe.txt tools/recipe-python models/scenes/recipe/requirements.txt
	$(PYTHON) tools/recipe-python $(TOOLS)/recipe
	@touch $@

families-python: $(TOOLS)/recipe/.families ## in the same environment, the projects whose models are imported: 0.4 GB more
$(TOOLS)/recipe/.families: $(TOOLS)/recipe/.installed tests/families/requirements-families.txt
	$(TOOLS)/recipe/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/families/requirements-families.txt
	@touch $@

$(TOOLS)/evaluation/.installed: models/scenes/evaluation/requirements.txt
	$(PYTHON) -m venv $(TOOLS)/evaluation
	$(TOOLS)/evaluation/bin/python -m pip install --quiet --disable-pip-version-check -r models/scenes/evaluation/requirements.txt
	@touch $@

clean: ## remove everything that was built or fetched
	rm -rf target $(TOOLS) out
