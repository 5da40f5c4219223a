"""The command line: data on stdout, messages on stderr.

Exit codes: 0 ok, 1 a check failed or an error, 2 wrong usage, 3 no agent answers, 4 not found.
"""
