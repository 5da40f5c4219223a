"""Everything that talks to the kernel: compiling, loading, pinning, reading and writing BPF maps, netlink."""
