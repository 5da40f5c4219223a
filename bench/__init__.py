"""The benchmark: what the mesh costs, beside no mesh at all and beside Envoy.

Four nouns.  A *path* is a way from the client to the upstream (`direct`, `rung1`, `envoy`, ...).
A *case* is a load (keep-alive with 32 connections, ...).  A *sample* is one run of wrk: one case over
one path in one round.  A *row* is the summary of a path in a case: medians over the rounds, and
ratios taken round by round, so that a machine that drifts drifts out of them.
"""
