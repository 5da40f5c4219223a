"""What `make acceptance AREA=cluster` measures on a real cluster: pods on two nodes, and the agent as users install it.

Nouns: the `Mesh` is the agent on the cluster; the `Shop` is what runs under it.  A module for each line of the list.
"""
