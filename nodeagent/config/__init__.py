"""Configuration: manifests -> objects -> one compiled Snapshot, and what to tell the user about each object.

    a file      directory, settling (when to read it), yaml_documents, manifest_files, schema, schemas/, acceptance
    an object   reading, filters, sessions, rule_faults, resources (typed), objects (what is in force),
                last_good (kept on disk), problems
    a snapshot  compile, from groundwork (services, workloads, ownership), routes and policies; conditions
"""
