"""Consumers of a stream: how far each has read, what is pending, and what becomes of messages that are never acked.

`consumers` is the way in. Behind it `group` is one position, made of `pending` deliveries. `delivery` dispatches and
logs, `work_queue` keeps overlapping consumers apart by claims, `dead_letter` composes what is stored of dropped
messages. `config` validates, `snapshot` encodes it all as plain values.
"""
