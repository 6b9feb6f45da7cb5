"""A contestant: a client of one server, with the calls that are measured. What is compared is made of these calls alone."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Final

IN_FLIGHT_BYTES: Final = 8 << 20
"""The most bytes of payloads that a pipelined publish leaves unanswered."""
Subject = Callable[[int], str]
"""Gives each message of a pipelined publish its subject, by its number."""


class Contestant(abc.ABC):
    """A client with one connection, or with one for each task where its library works so."""

    @abc.abstractmethod
    async def open(self, target: str) -> None:
        """Connect to the server at an address that its kind of contestant understands."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Leave the server."""

    @abc.abstractmethod
    async def make_stream(self, stream: str) -> None:
        """Make a stream in a file, without bounds."""

    @abc.abstractmethod
    async def delete_stream(self, stream: str) -> None:
        """Delete a stream with its consumers."""

    @abc.abstractmethod
    async def publish(self, stream: str, subject: str, payload: bytes) -> None:
        """Publish one message, and wait until the server has confirmed it."""

    @abc.abstractmethod
    async def publish_all(self, stream: str, subject: Subject, payload: bytes, count: int) -> None:
        """Publish so many messages without waiting for each, and wait until all are confirmed."""

    @abc.abstractmethod
    async def make_consumer(self, stream: str, consumer: str) -> None:
        """Make a durable consumer that begins with the first message."""

    @abc.abstractmethod
    async def fetch(self, stream: str, consumer: str, most: int, task: int = 0) -> int:
        """Fetch up to so many messages, of which there is one, and acknowledge them; return how many once that is confirmed."""

    @abc.abstractmethod
    async def replay(self, stream: str, count: int) -> int:
        """Read so many messages from the first one on; return the bytes of their payloads."""

    @abc.abstractmethod
    async def make_bucket(self, bucket: str) -> None:
        """Make an empty bucket of keys, and use it from now on."""

    @abc.abstractmethod
    async def delete_bucket(self, bucket: str) -> None:
        """Delete a bucket with its keys."""

    @abc.abstractmethod
    async def put(self, key: str, value: bytes) -> None:
        """Set a key of the bucket."""

    @abc.abstractmethod
    async def get(self, key: str) -> bytes:
        """Return the value of a key of the bucket."""
