"""The mesh tests of Gateway API's conformance suite, written afresh for pods in network namespaces.

See docs/conformance.md.  `suite` lists the tests under their upstream short names, `routes` builds what they
configure, `mesh` is the node they run on, `client` sends, `cases` says what is expected, `report` adds up.
"""
