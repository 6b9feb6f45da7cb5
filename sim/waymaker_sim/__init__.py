"""The simulator: a node, its disk, its clock and its clients in virtual time, with everything that can go wrong.

It drives the same core objects as the server does, through the same inputs and effects, and never touches a file, a socket
or a real clock. One seed decides everything.
"""
