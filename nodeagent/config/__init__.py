"""Configuration: manifests -> objects -> one compiled Snapshot, and what to tell the user about each object.

    a source    source (the contract); here a directory of files, in nodeagent.kube an API server
    a file      directory, settling (when to read it), yaml_documents, manifest_files, schema, schemas/, acceptance
    an object   reading, read_*, quantities, filters, sessions, rule_faults, patterns (how many), resources (typed),
                objects (what is in force), last_good (on disk), problems
    a snapshot  compile, by a compilation that is brought up to date, from groundwork (services, locality, workloads,
                ownership), routes (rules; standing: on each parent; shadowed: of two routes one gets the requests),
                policies, traffic; destinations, at claims (addresses of Services), other_ports and node_addresses; said
                (conditions, traffic_conditions)
    CRDs        crds, from the tables in schemas/ by openapi; cel: cross-field rules in the API server's language
"""
