"""Settings that travel as the contract's messages arrive as they left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker.wire.configs import consumer_config, consumer_config_pb, stream_config, stream_config_pb
from waymaker_core.model.config import (
    ConsumerConfig,
    DeliveryPolicy,
    OnDrop,
    Retention,
    SourceConfig,
    StreamConfig,
    SubjectTransform,
)
from waymaker_proto import waymaker_streams_pb2 as pb

u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
words = st.text(st.characters(codec="utf-8"), max_size=4)
sources = st.builds(
    SourceConfig, source_stream=words, filter_subject=words, start_seq=u64, start_time_ms=st.integers(-(2**63), 2**63 - 1),
    subject_transform=st.none() | st.builds(SubjectTransform, words, words), max_initial_backfill=u64,
    on_drop=st.sampled_from(OnDrop), dlq_stream=words,
)  # fmt: skip


@given(st.data())
def test_a_streams_settings_survive_the_message(data: st.DataObject) -> None:
    retention = data.draw(st.sampled_from(Retention))
    limited = retention is Retention.LIMITS
    config = StreamConfig(
        name=data.draw(words),
        subjects_filter=tuple(data.draw(st.lists(words, max_size=3))),
        retention=retention,
        max_age_ms=data.draw(u64) if limited else 0,
        max_msgs=data.draw(u64) if limited else 0,
        max_bytes=data.draw(u64) if limited else 0,
        strict_limits=data.draw(st.booleans()) if limited else False,
        block_size=data.draw(u64),
        max_msg_bytes=data.draw(u64),
        ephemeral=data.draw(st.booleans()),
        max_msgs_per_subject=data.draw(u64),
        sources=tuple(data.draw(st.lists(sources, max_size=3))),
    )
    message = pb.StreamConfigPb.FromString(stream_config_pb(config).SerializeToString())
    assert stream_config(message) == config
    assert message.retention.WhichOneof("policy") is not None
    assert message.retention.limits.HasField("max_msgs") == (config.max_msgs != 0), "a bound of 0 is absent"


@given(
    words, words, st.sampled_from(DeliveryPolicy), u64, st.integers(-(2**63), 2**63 - 1), u64, u32, words, words, u64
)
def test_a_consumers_settings_survive_the_message_and_what_travels_beside_it(
    name: str, subject: str, policy: DeliveryPolicy, seq: int, time_ms: int, wait_ms: int, deliver: int, group: str,
    letters: str, inactive_ms: int,
) -> None:  # fmt: skip
    config = ConsumerConfig(
        name=name, filter_subject=subject, policy=policy, start_seq=seq, start_time_ms=time_ms, ack_wait_ms=wait_ms,
        max_deliver=deliver, deliver_group=group, dead_letter_subject=letters, inactive_ms=inactive_ms,
    )  # fmt: skip
    message = pb.ConsumerConfigPb.FromString(consumer_config_pb(config).SerializeToString())
    assert consumer_config(message, inactive_ms) == config


def test_a_delivery_policy_that_does_not_exist_has_no_value() -> None:
    message = pb.ConsumerConfigPb.FromString(b"\x1a\x02\x08\x63")
    assert message.delivery_policy.type == 99
    with pytest.raises(ValueError, match="99"):
        consumer_config(message)
