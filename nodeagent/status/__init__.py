"""What is told to the API server about objects and nodes.  Decisions only: no I/O, no clock, no third-party import.

    an object   entries (what its status should say, from the conditions of a snapshot), plan (that and what it says
                now -> a patch, or nothing), occurrences (what becomes an Event, how often, and how many there may be)
    the nodes   digests (which objects a node has in force, in 32 characters), acknowledgements (which generations
                all nodes have), mesh_node (what a node says of itself), silence (whose agent cannot any more)
    all of it   book (what is known of objects and nodes; what there is to write)
    who writes  election (of one writer by a Lease), pace (how fast, how often, and when again after a failure), holds
                (which objects wait because of that)
"""
