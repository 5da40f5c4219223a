"""Objects from an API server: list, watch, and the last good state on disk, for nodeagent.agent.configuration.

    the API       kinds (what is followed), api (questions and failures), client (the one importer of kubernetes)
    an object     records (bytes -> what is read of it), judging (-> a resource, or what is wrong with it)
    one kind      reflection (list and watch as a state machine), reflector (does what it says), table (in force)
    all of them   cluster (tables -> ObjectSet), last_good (on disk), source (the whole, as config/source wants it)
"""
