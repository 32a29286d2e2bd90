# Easel. The two commands of a new user are `make demo` and `make test`; each does all of its own set-up on a machine that has Rust, Python 3 with pip,
# make and a C compiler.
PYTHON ?= python3
CARGO ?= cargo
TOOLS := .tools
ORT := $(TOOLS)/onnxruntime/.unpacked
PY := $(TOOLS)/python/bin/python
PROMPT ?= an armchair in the shape of an avocado

.PHONY: demo test test-deploy serve bench lint onnxruntime python clean help

help: ## this text
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: onnxruntime ## draw PROMPT ("an armchair in the shape of an avocado") with the embedded model into out/
	$(CARGO) build --release --locked
	target/release/easel generate "$(PROMPT)" --candidates 32 --keep 8 --seed 7

serve: onnxruntime ## run all five services in the foreground, the gateway on 127.0.0.1:50050
	$(CARGO) build --release --locked
	target/release/easel serve

test: onnxruntime python ## every test: Rust, Python, deployment
	$(CARGO) build --workspace --all-targets --locked
	$(CARGO) test --workspace --locked
	PYTHONPATH=clients/python/src $(PY) -m pytest -q clients/python

test-deploy: onnxruntime python ## the compose file started, manifests and alerts checked (Debian, root, podman, kubectl)
	$(CARGO) build --workspace --all-targets --locked
	PYTHONPATH=clients/python/src $(PY) -m pytest -q deploy/tests

bench: onnxruntime ## the benchmarks of BENCHMARKS.md
	$(CARGO) bench --locked -p easel-tests --bench overhead

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

clean: ## remove everything that was built or fetched
	rm -rf target $(TOOLS) out
