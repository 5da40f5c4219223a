"""Objects from an API server (list, watch, the last good state on disk), and what it is told in return.

    the API       kinds (what is followed), api (questions and failures), client (library: of the kubernetes package)
    an object     records (bytes -> what is read of it), judging (-> a resource, or what is wrong with it)
    one kind      reflection (list and watch as a state machine), list_watch (does what it says), reflector (of what is
                  in force, into a table)
    all of them   cluster (tables -> ObjectSet), last_good (on disk), source (the whole, as config/source wants it)
    in return     telling: node_reporter (each node's MeshNode), event_writer; on the one node that leads (leadership:
                  the Lease) status_writer, with a follower of each kind (followed), which has its part of the
                  reflectors' watches (relay).  What is told nodeagent.status decides
"""
