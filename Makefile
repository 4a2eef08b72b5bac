# Two targets are all a newcomer needs: `make demo` and `make test`. Each does its own set-up.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-long test-scale test-sites test-sites-long apps-setup test-firefox test-api-fuzz test-clients chaos check format bench lock

PYTHON := .venv/bin/python
# Most tests wait for other processes half of the time; four keep two cores busy.
WORKERS ?= 4
PARALLEL := -n $(WORKERS) --dist loadfile
# Hundreds of Python processes are started; where this is set, each would compile what it imports.
export PYTHONDONTWRITEBYTECODE :=

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what the other targets need: Python packages in .venv, a browser
	@scripts/setup

demo: setup ## a running fleet on the embedded demo site; Ctrl-C ends it
	@$(PYTHON) -m demo

test: setup ## the tests: real browsers, real processes, the real client
	@scripts/display-setup
	@scripts/age-setup
	@scripts/etcd-setup
	@scripts/test $(PARALLEL) -m 'not slow and not long and not scale and not firefox and not sites and not clients'

test-slow: setup ## those that take long: faults and waits in real browsers, balancers before several coordinators
	@scripts/display-setup
	@scripts/age-setup
	@scripts/balancers-setup
	@scripts/etcd-setup
	@scripts/test $(PARALLEL) -m 'slow and not long and not scale and not firefox and not sites and not clients'

test-long: setup ## the same at their full size, and those that take long for what they add; not part of CI
	@scripts/display-setup
	@scripts/age-setup
	@scripts/balancers-setup
	@scripts/etcd-setup
	@TEST_LONG=1 scripts/test $(PARALLEL) -m 'not scale and not firefox and not sites and not clients'

# What tests elsewhere show of the proofs that tests/scale/__init__.py lists, where `make test` does not run them.
SCALE_PROOFS := tests/e2e/test_host.py tests/e2e/test_shared_browser.py tests/e2e/test_claim_deadline.py \
    tests/cells tests/coordinator/claims
test-scale: setup ## several coordinators with etcd under faults, in network namespaces: no login is ever used twice
	@scripts/display-setup
	@scripts/age-setup
	@scripts/balancers-setup
	@scripts/etcd-setup
	@scripts/scale-setup
	@scripts/test tests/scale -m scale # one after another: what is late on a busy machine counts as a fault
	@scripts/test $(PARALLEL) $(SCALE_PROOFS) -m 'not long and not scale and not firefox'

apps-setup: setup
	@scripts/display-setup
	@scripts/firefox-setup
	@scripts/proxies-setup
	@scripts/app-env chainlit gradio nicegui panel shiny streamlit

test-sites: apps-setup ## real chat apps on the engines, and all that the other engines need tested
	@scripts/test -n 2 --dist loadfile -m '(sites or firefox) and not long' # three Firefox fleets starve each other on 2 cores

test-sites-long: apps-setup ## every app on every engine; not part of CI
	@TEST_LONG=1 scripts/test -m 'sites or firefox'

test-firefox: setup ## of those, the child's tests on Firefox ESR alone
	@scripts/display-setup
	@scripts/firefox-setup
	@scripts/test $(PARALLEL) -m firefox

test-api-fuzz: setup ## thousands of random requests over the OpenAPI document (schemathesis), at a coordinator without browsers
	@$(PYTHON) -m tests.api_fuzz

test-clients: setup ## real clients against a real fleet: what each gets, and that each submits once
	@scripts/clients-setup
	@scripts/test tests/clients -m clients

chaos: setup ## a table of faults of the machine; requests under faults, and what was lost or leaked: nothing
	@$(PYTHON) -m tests.chaos.faults
	@$(PYTHON) -m tests.chaos
	@$(PYTHON) -m tests.chaos --real
	@$(PYTHON) -m tests.chaos --real --logins-per-browser 4

check: setup ## types, lint, formatting, Markdown
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@$(PYTHON) -m pymarkdown --config pyproject.toml scan $$(git ls-files '*.md' ':!tests/browser/capture/markdown_corpus')

format: setup ## rewrite the code in the project's format
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

bench: setup ## measure the product beside its peers and print ratios
	@scripts/bench-setup
	@$(PYTHON) -m benchmarks

lock: setup ## rewrite the lock files from pyproject.toml
	@scripts/lock
