"""Counters in BPF maps -> Prometheus text.

Three nouns: a *row* is one slot or key of a map; a *series* is rows with equal labels added up
(over CPUs, over workers, dead ones included); a *family* is all series of one metric name.
"""
