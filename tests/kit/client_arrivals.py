"""Arrivals: what reaches a client of a consumer, in the order in which it arrives.

A program may be given a message that it has acknowledged: its next delivery was on its way, or waited here, when the ack was
confirmed. A delivery that arrives behind the confirmation is none of those: a primary sent it though it knew of the ack.
"""

from __future__ import annotations

import pytest

from waymaker.client.consumer.delivery import Confirmation
from waymaker.client.consumer.subscription import Subscription
from waymaker_proto import pipeline_pb2 as pl


class Arrivals:
    """Notes of one consumer's deliveries and confirmed acks. Deliveries of one frame come before its confirmations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deliveries: dict[int, int] = {}
        """By sequence: how often a message has arrived."""
        self.confirmed: set[int] = set()
        """Sequences whose ack or term the server has confirmed."""
        self.late: list[int] = []
        """Sequences that were delivered again behind the confirmation of their ack."""
        deliver, answer = Subscription.deliver, Confirmation.answer

        def note_delivery(subscription: Subscription, batch: pl.DeliveryBatch) -> None:
            for run in batch.runs:
                for seq in range(run.first_seq, run.first_seq + len(run.lengths)):
                    self.deliveries[seq] = self.deliveries.get(seq, 0) + 1
                    if seq in self.confirmed:
                        self.late.append(seq)
            deliver(subscription, batch)

        def note_answer(acks: Confirmation, reply: pl.Acked) -> None:
            if reply.result_code == "ok" and acks.kind in {pl.ACK, pl.TERM}:
                self.confirmed.update(acks.seqs)
                self.confirmed.update(seq for first, last in acks.ranges for seq in range(first, last + 1))
            answer(acks, reply)

        monkeypatch.setattr(Subscription, "deliver", note_delivery)
        monkeypatch.setattr(Confirmation, "answer", note_answer)
