# The verbs of the project; `.ci/run` runs the same ones. Each target first makes `.venv` from requirements.lock
# (exact versions, checked by hash) where it is missing or stale, and says so.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && { echo $$p; break; }; done)
BIN := .venv/bin
PY := $(BIN)/python
UV := $(BIN)/uv
STAMP := .venv/.made-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
RAY_STAMP := .venv-ray/.made-$(shell cat requirements.lock requirements-ray.lock pyproject.toml | cksum | cut -d' ' -f1)
ROOT ?= ./crrg-data

ifneq ($(wildcard ../shared/data),)
export CRRG_OPEN_DATA ?= $(abspath ../shared/data)
endif
export DO_NOT_TRACK := 1

# of benchmarks/: those with targets of their own, and those that need a root, a folder or a person
NOT_IN_BENCH := adapted_language classification_speed coco_speed detector_maps evidence gpu_speed real_night soak_ingest ingest_speed nightly_speed quality_classification quality_generation scale_out grounded_training grounding_sample real_wording shared_machine watch visibility
TEST_FOLDERS := $(wildcard tests/unit tests/property tests/contract tests/golden tests/gpu)
# of tests/contract, all of which `make test` runs: what a change breaks most easily, in seconds
PROMISES := $(patsubst %,tests/contract/test_%.py,ceilings forms form_help deployments no_pickle no_secrets)
CHECKED := crrg tasks flows deployments tests benchmarks

.PHONY: help env lock demo quality champion champion-small quality-classification quality-generation bench-evidence test check audit release e2e e2e-full real up bench soak-ingest faults soak bench-ingest bench-classification bench-generation bench-nightly bench-watch bench-grounding scale-out gpu system-deps

help:  ## Say what each target does
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  \1\t/' | expand -t 16

# compiled once here: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would compile torch anew
env: $(STAMP)  ## Make .venv from requirements.lock, where it is missing or stale

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on PATH" >&2; exit 2; }
	@echo "== environment: .venv from requirements.lock with $(PYTHON) (some minutes the first time)"
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@test -x $(UV) || $(PY) -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(abspath .venv) $(UV) pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	@test -x $(UV) || $(PY) -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(abspath .venv) $(UV) pip install --quiet --no-deps -e .
	@rm -f .venv/.made-* && touch $@
	@echo "== environment: ready"

$(RAY_STAMP): $(STAMP) requirements-ray.lock
	@echo "== environment: .venv-ray, which is .venv with requirements-ray.lock on top"
	@rm -rf .venv-ray && $(PY) -m venv --without-pip .venv-ray
	@VIRTUAL_ENV=$(abspath .venv-ray) $(UV) pip install --quiet --no-deps --require-hashes --compile-bytecode -r requirements-ray.lock
	@$(PY) -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
		> $$(.venv-ray/bin/python -c 'import site; print(site.getsitepackages()[0])')/crrg-environment.pth
	@touch $@

lock: env  ## Resolve requirements.lock again from pyproject.toml
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--extra dev --extra dicom --extra auth pyproject.toml -o requirements.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header --extra ray \
		-c requirements.lock pyproject.toml | grep -vEf <(sed -nE 's/^([a-z0-9._-]+==).*/^\1/p' requirements.lock) \
		| $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-deps --no-annotate \
		--no-header - -o requirements-ray.lock

demo: env  ## Draw a cohort, train every stage, promote the bundle, run a night, print the scorecard
	@echo "== demo: everything lands under $(ROOT)"
	$(BIN)/crrg demo --root $(ROOT)

quality: env  ## The demo at the preset `small` (at most 90 minutes on two cores)
	@echo "== quality: everything lands under $(ROOT)-small"
	$(BIN)/crrg demo --root $(ROOT)-small --preset small --studies 4000

# what measures a root makes it first where there is none, or goes on with it; one in a bucket, or not the demo's, is left alone
define made_first
	@+case '$(1)' in *://*) ;; *) { test -e '$(1)' && ! test -e '$(1)/demo.key'; } || test -e '$(1)/models/aliases/champion.json' || \
		{ echo "== $(1) has no champion: make $(2) comes first ($(3))"; $(MAKE) --no-print-directory $(2); } ;; esac
endef

champion: env
	$(call made_first,$(ROOT),demo,a quarter of an hour)

champion-small: env
	$(call made_first,$(ROOT)-small,quality,at most 90 minutes)

quality-classification: champion-small  ## Fused head by severity, probe, zero-shot, ablation, consistency, joint rounds, on the root of `make quality`, which comes first where there is none
	$(PY) -m benchmarks.quality_classification --root $(ROOT)-small --clip-steps 300

quality-generation: $(if $(filter tiny,$(PRESET)),champion,champion-small)  ## Boxes, drafts, real lungs of PRESET (small) beside baselines, `paper` beside `crrg`; goes on where it stopped; `make quality` comes first where there is no root
	$(PY) -m benchmarks.quality_generation --root $(if $(filter tiny,$(PRESET)),$(ROOT),$(ROOT)-$(or $(PRESET),small))

test: env  ## Unit, property, contract and golden tests
	@echo "== test: $(TEST_FOLDERS)"
	$(PY) -m pytest $(TEST_FOLDERS) -m "not e2e" -q -n auto --maxprocesses 4 --dist loadfile

check: env  ## Style, types, import layers, ceilings and other promises
	@echo "== check: ruff"
	$(BIN)/ruff check $(wildcard $(CHECKED))
	$(BIN)/ruff format --check $(wildcard $(CHECKED))
	@echo "== check: mypy --strict on crrg, tasks, flows and deployments"
	$(BIN)/mypy
	@echo "== check: import layers"
	$(BIN)/lint-imports
	@echo "== check: ceilings, names, forms, deployments"
	$(PY) -m pytest $(PROMISES) -q

audit: env  ## Bill of materials, version floors and advisories of the locked environment (RELEASE=1 for a release)
	@echo "== audit: build/sbom.cdx.json, floors, advisories"
	$(PY) -m deployments.audit $(if $(RELEASE),--release)

release: env  ## Wheel, bill of materials and digests of the commit in dist/; the same bytes for everybody
	@echo "== release: dist/"
	$(PY) -m deployments.release

e2e: env  ## The whole path on real Prefect, MLflow and S3 servers, started and ended by the tests
	@echo "== e2e: servers on free ports, some minutes"
	$(PY) -m pytest tests/e2e -m "e2e and not full" -q -n auto --maxprocesses 2 --dist loadfile

e2e-full: env  ## The rest of the promises, by hand
	$(PY) -m pytest tests -m e2e -q

real: env  ## Train on drawn and real data, run a night over real films in a bucket (needs CRRG_OPEN_DATA)
	@test -n "$${CRRG_OPEN_DATA:-}" || { echo "== real: CRRG_OPEN_DATA is not set; docs/real-data.md says what to put there" >&2; exit 2; }
	@echo "== real: open data in $$CRRG_OPEN_DATA, everything lands under $(ROOT)-real and $(ROOT)-real-source"
	$(PY) -m pytest tests -m real -q
	$(PY) -m benchmarks.real_night --root $(ROOT)-real

up: env  ## Prefect server and workers, MLflow and a local S3 with every deployment; Ctrl-C ends all of it
	@exec $(PY) -m deployments.up

faults: env  ## Nights under faults: spoilt requests, kills, races, a dying store, a full disk (MINUTES=120); goes on
	$(PY) -m benchmarks.faults --folder $(or $(FOLDER),.make/faults) --minutes $(or $(MINUTES),120)

soak: champion  ## Nights for hours beside somebody who fills the inbox (STUDIES=10000; ROOT, made first where it has no champion); goes on
	$(PY) -m benchmarks.soak --root $(ROOT) --folder $(or $(FOLDER),.make/soak) --studies $(or $(STUDIES),10000) \
		--minutes $(or $(MINUTES),120)

bench: env  ## Measurements that performance claims rest on; the longer ones have targets of their own
	@for name in $(filter-out $(NOT_IN_BENCH) __init__,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/*.py))); do \
		echo "== bench: $$name"; $(PY) -m benchmarks.$$name; done

soak-ingest: env  ## Randomly damaged films through the decoders (FILMS=10000); goes on where it was stopped
	$(PY) -m benchmarks.soak_ingest --films $(or $(FILMS),10000)

bench-ingest: env  ## Ingest beside the bare work on the same films, its memory, and latency on S3 (about half an hour)
	$(PY) -m benchmarks.ingest_speed

scale-out: $(RAY_STAMP)  ## An ingest and a night over a Ray cluster of two nodes on this machine, beside one process
	@echo "== scale-out: servers and nodes on free ports, some minutes; nothing is left"
	PATH="$(abspath $(BIN)):$$PATH" .venv-ray/bin/python -m pytest tests/e2e/test_scale_out.py -q
	.venv-ray/bin/python -m benchmarks.scale_out

bench-generation: env  ## Film to report beside the published procedure at full size; goes on where it was stopped (an hour)
	$(PY) -m benchmarks.generation --folder $(or $(FOLDER),.make/generation)

bench-evidence: champion  ## Whether maps of what a sentence rests on point at what was drawn, and what scores say of regions cut off (ROOT)
	$(PY) -m benchmarks.evidence --root $(ROOT)
	$(PY) -m benchmarks.visibility --root $(ROOT)

bench-classification: env  ## A CLIP step and zero-shot inference beside the published ones; goes on where it was stopped
	$(PY) -m benchmarks.classification_speed --folder $(or $(FOLDER),.make/classification)

bench-nightly: champion  ## A night beside a plain loop over the same films, Prefect's share, latency on S3 (ROOT, made first where it has no champion; DEVICE=cuda)
	$(PY) -m benchmarks.nightly_speed --root $(ROOT) --device $(or $(DEVICE),cpu)

bench-watch: champion  ## How often the watch over nights is wrong, and what it notices (ROOT, made first where it has no champion)
	$(PY) -m benchmarks.watch --root $(ROOT)

gpu: env  ## Tests on a GPU and its speed beside the published procedure, some minutes (DEVICE=cpu tries them without one)
	$(PY) -m pytest tests/gpu -q -rs --device $(or $(DEVICE),cuda)
	$(PY) -m benchmarks.gpu_speed --json .make/gpu-speed.json --device $(or $(DEVICE),cuda) $(if $(filter cpu,$(DEVICE)),--size tiny --batches 1 2)

bench-grounding: env  ## What an archive without boxes teaches once it is grounded (about half an hour)
	$(PY) -m benchmarks.grounded_training --root $(ROOT)-grounding

system-deps:  ## Debian packages that some end-to-end tests use; says so where it cannot install them
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "== system-deps: chromium dicom3tools dcmtk orthanc orthanc-dicomweb nginx-light"; \
		for package in chromium dicom3tools dcmtk orthanc orthanc-dicomweb nginx-light; do \
			dpkg -s $$package >/dev/null 2>&1 && continue; \
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package >/dev/null 2>&1 \
				|| { apt-get update -qq >/dev/null 2>&1; \
				     DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package >/dev/null 2>&1; } \
				|| echo "== system-deps: $$package could not be installed; the tests that use it will say so"; \
		done; \
	else echo "== system-deps: skipped (needs root and apt-get); tests that use these tools will say so"; fi
