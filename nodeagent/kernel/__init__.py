"""Everything that talks to the kernel: compiling, loading, pinning, reading and writing BPF maps, netlink.

    programs    compiler (a child) -> bytecode -> loader -> instance: hooks, links, layout (pins), neighbours, btf
                bytecode_file: compiled before, where there is a compiler
    calls       syscall (bpf(2) itself), bpf (programs, links), bpf_map (maps behind descriptors), release
    maps        abi (structs), maps (typed access), names (ids), sync (a Snapshot into the maps)
                elements (how many a map has), dialled (where pods dialled to)
    ledger      ledger (a worker's claims), ledger_keeper (the agent's part)
    namespaces  netlink (a child): netlink_socket, sock_diag; netns (how it is asked), setns; canary (a child); cgroups
                unprivileged (what workers may do)
    pods        kubepods (the kubelet's cgroups), processes (in them), inotify
"""
