"""Measurements of the real server, each beside a bare peer of the same run.

``python -m benchmarks`` (or ``make bench``) starts a server as a child process, loads it from this process over the
loopback, and prints a table. Client and server share the machine, as the figures in the documentation do. A figure
means little without its peer: the same bytes written and synced by a loop without any server, on the same disk in the
same minute.
"""
