"""The command line: data on stdout, messages on stderr.

One module per command, imported when it is called (main).  Shared: options, output, errors, instance (what is
read from pins); checks are doctor's, map_rows are `bpf map dump`'s.

Exit codes: 0 ok, 1 a check failed or an error, 2 wrong usage, 3 no agent answers, 4 not found.
"""
