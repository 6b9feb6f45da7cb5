"""Collections: hashes, sets and queues, whose entries are messages of streams of their own.

A hash or a set keeps one message for each field or member (`entries`), a queue one for each value (`queue`). Both files hold
the layer of such a stream; `decisions` are what its service decides.
"""
