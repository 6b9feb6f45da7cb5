"""Consumers of a stream: where each stands, what it has out, and what becomes of what is never answered.

`consumers` is the door; behind it `group` holds one position, made of `pending` deliveries (`batch`, `sequences`);
`claims` keeps overlapping consumers of a work queue apart; `dead_letter` composes what is stored of a message given
up; `config` says what a consumer may be; `snapshot` is its state as plain values.
"""
