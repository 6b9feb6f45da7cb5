"""Collections and sketches as objects of a client: hashes with the manners of a dict, sets, queues with those of a deque.

An object is a name and a way to call; making one sends nothing. Each call is one request, or one for each part of a large
batch.
"""
