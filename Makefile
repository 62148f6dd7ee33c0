# The commands of maskact_ros. Each sets up what it needs; `make` alone lists them.
#
# .venv holds the package and ROS 2 Kilted from the package index or, where a ROS distribution is sourced, the package on
# top of that distribution; .venv-jazzy holds it with Jazzy from the index. An environment is whole when its stamp is
# there: one whose set-up was interrupted has none, and is made anew.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo bench wheel reference lint test test-all coverage faults system

# The first of these that runs and is supported; `make setup PYTHON=/usr/bin/python3.12` takes another.
PYTHON ?= $(shell for python in python3 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$python && break; done)

# A distribution counts when this Python can use it.
ROS := $(if $(and $(ROS_DISTRO),$(shell $(PYTHON) -c 'import rclpy' 2>/dev/null && echo found)),sourced,kilted)
STAMP := .venv/.complete-$(ROS)
JAZZY_STAMP := .venv-jazzy/.complete-jazzy

# What sets the environments apart: pip's extras, the pinned versions, venv's options, and how their commands are run.
EXTRAS_kilted := ros,sim,train,onnx,test
EXTRAS_jazzy := ros-jazzy,sim,train,onnx,test
EXTRAS_sourced := sim,train,onnx,test
PINS_kilted := requirements/python.txt requirements/kilted.txt
PINS_jazzy := requirements/python.txt requirements/jazzy.txt
PINS_sourced := requirements/python.txt
VENV_sourced := --system-site-packages
RUN_kilted := env -u ROS_DISTRO -u PYTHONPATH -u AMENT_PREFIX_PATH -u LD_LIBRARY_PATH
RUN_jazzy := $(RUN_kilted)

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: $(STAMP)  ## Make .venv, with the command .venv/bin/maskact

demo: $(STAMP)  ## Run the three nodes on the simulated arm; ARGS="--episodes 3" is passed on
	$(RUN_$(ROS)) .venv/bin/maskact demo $(ARGS)

bench: $(STAMP)  ## Run all benchmarks but the soak, beside their baselines (half an hour); ARGS="--quick" is passed on
	$(RUN_$(ROS)) .venv/bin/python -m benchmarks all $(ARGS)

# Built apart from build/, where files of an older tree may lie.
wheel: $(STAMP)  ## Build dist/*.tar.gz and dist/*.whl
	.venv/bin/python setup.py -q sdist
	@apart=$$(mktemp -d) && .venv/bin/python setup.py -q build --build-base $$apart bdist_wheel; ended=$$?; rm -rf $$apart; exit $$ended
	@ls dist/*

reference: $(STAMP)  ## Write config/maskact.yaml and docs/reference/ from the declarations in the code
	$(RUN_$(ROS)) .venv/bin/python -m reference

# In an environment of its own, which users do not need.
DOCS_STAMP := .venv-docs/.complete
.PHONY: docs
docs: $(DOCS_STAMP)  ## Build the documentation as a site, site/index.html; a dead link or an unlisted page is an error
	NO_MKDOCS_2_WARNING=1 $(RUN_kilted) .venv-docs/bin/mkdocs build --strict

$(DOCS_STAMP): requirements/docs.txt
	@rm -rf .venv-docs && $(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/pip install -qq --disable-pip-version-check -r requirements/docs.txt
	@touch $@

lint: $(STAMP)  ## Check style and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

# Tests without ROS share the machine, one thread each. Of those with ROS two files run at a time: a file's tests share
# nodes, so they stay together.
# No test runs twice. Faults are a sample, always the same; `make faults` injects all, at other moments each time.
WITHOUT_ROS = $(RUN_$(ROS)) .venv/bin/pytest -n logical --dist worksteal --ignore test/nodes --ignore test/faults
WITH_ROS = $(RUN_$(ROS)) .venv/bin/pytest -n 2 --dist loadfile test/nodes test/faults
ON_JAZZY = $(RUN_jazzy) .venv-jazzy/bin/pytest -n 2 --dist loadfile
QUICK = -m "not extended"
test test-all coverage: export OMP_NUM_THREADS := 1
# What another distribution may read, send or call otherwise.
HANDFUL = $(patsubst %,test/nodes/test_%.py,bulk enabling lifecycle messages parameters wire)

# $(call timed,WHAT,COMMAND) runs the command and says how long it took.
timed = @TIMEFORMAT="== $1: %0lR"; time $2

test: $(STAMP) $(JAZZY_STAMP)  ## Check style and types, then run the tests that are quick; a handful on Jazzy
	$(call timed,style and types,$(MAKE) --no-print-directory lint)
	$(call timed,tests without ROS,$(WITHOUT_ROS) $(QUICK))
	$(call timed,tests with ROS,$(WITH_ROS) $(QUICK))
	$(call timed,a handful on Jazzy,$(ON_JAZZY) $(QUICK) $(HANDFUL))

test-all: $(STAMP) $(JAZZY_STAMP)  ## The same with all tests, those with ROS on Kilted and on Jazzy (an hour)
	$(call timed,style and types,$(MAKE) --no-print-directory lint)
	$(call timed,all tests without ROS,$(WITHOUT_ROS))
	$(call timed,all tests with ROS,$(WITH_ROS))
	$(call timed,all tests with ROS on Jazzy,$(ON_JAZZY) test/nodes)

coverage: $(STAMP)  ## Run the tests of `make test` on Kilted, and print the branch coverage by file, worst first
	$(RUN_$(ROS)) .venv/bin/pytest -n logical --dist loadfile $(QUICK) --cov=maskact_ros

# ROWS is what pytest's -k takes: camera, killed, publisher, blocked, garbage, odd_messages, chunks, joint_states,
# impossible_poses, parameters, clock, without_events, checkpoints, transitions, trajectories, stock_controller,
# two_publishers, launcher.
SEED ?= $(shell date +%s)
PHASES ?= 20
faults: $(STAMP)  ## Inject every fault at 20 random moments (an hour); SEED=… PHASES=… ROWS="clock or camera" choose
	@echo "make faults SEED=$(SEED) PHASES=$(PHASES)$(if $(ROWS), ROWS=\"$(ROWS)\")"
	FAULTS_SEED=$(SEED) FAULTS_PHASES=$(PHASES) $(RUN_$(ROS)) .venv/bin/pytest test/faults $(if $(ROWS),-k "$(ROWS)")

$(STAMP): setup.py setup.cfg $(PINS_$(ROS)) | system
	$(call environment,.venv,$(ROS))

$(JAZZY_STAMP): setup.py setup.cfg $(PINS_jazzy) | system
	$(call environment,.venv-jazzy,jazzy)

# $(call environment,FOLDER,ROS) makes an environment, or brings it up to date. The stamp goes first and comes last.
define environment
	@if [ -e $@ ]; then rm $@; else echo "Making $1; the first time takes minutes."; rm -rf $1; fi
	@$(RUN_$2) $(PYTHON) -m venv $(VENV_$2) $1
	@$(RUN_$2) $1/bin/pip install -qq --disable-pip-version-check $(PINS_$2:%=-c %) setuptools
	@$(RUN_$2) $1/bin/pip install -qq --disable-pip-version-check $(PINS_$2:%=-c %) --no-build-isolation -e '.[$(EXTRAS_$2)]'
	@touch $@
endef

# What pip cannot supply: venv itself, which Debian packages apart, and OSMesa, which renders without a display.
system:
	@[ -n "$(PYTHON)" ] || { echo "maskact_ros needs Python 3.11 or 3.12, and found neither."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(call apt_install,$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'))
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libOSMesa.so.8")' 2>/dev/null || $(call apt_install,libosmesa6)

# $(call apt_install,PACKAGE) installs where that is allowed without a password, and else says how.
apt_install = { \
	if [ "$$(id -u)" = 0 ]; then sudo=; else sudo=sudo; sudo -n true 2>/dev/null; fi && \
	{ $$sudo apt-get update --quiet; $$sudo apt-get install --quiet --yes --no-install-recommends $1; }; \
	} || { echo "maskact_ros needs $1. Please run: sudo apt-get install $1"; exit 1; }
