"""One test per acceptance line; `make acceptance AREA=node` runs tests/acceptance/test_node.py."""
