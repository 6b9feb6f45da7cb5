"""A client made at run time from the published contract, and from nothing else of this project.

It stands for a program in another language: its message classes come from the descriptor snapshot in a pool of their own, its
calls are plain gRPC. If the server's own generated code were wrong, this client would notice.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from tests.kit.contract_facts import published_contract

SERVICE = "waymaker.streams.WaymakerStreamsService"
TIMEOUT_S = 20.0
Metadata = list[tuple[str, str]]


def published_service() -> ServiceDescriptor:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(published_contract())
    return pool.FindServiceByName(SERVICE)


class WireClient:
    """Calls by the RPC's name, with the request's fields as keywords. Blocking, for tests."""

    def __init__(self, address: str) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.channel = grpc.insecure_channel(address, options=options)
        self._methods: dict[str, MethodDescriptor] = dict(published_service().methods_by_name)

    def close(self) -> None:
        self.channel.close()

    def request(self, rpc: str, **fields: Any) -> Any:
        return message_factory.GetMessageClass(self._methods[rpc].input_type)(**fields)

    def call(self, rpc: str, metadata: Metadata | None = None, **fields: Any) -> Any:
        """Return the response; a status other than OK is raised as `grpc.RpcError`."""
        return self.with_trailers(rpc, metadata, **fields)[0]

    def with_trailers(self, rpc: str, metadata: Metadata | None = None, **fields: Any) -> tuple[Any, dict[str, str]]:
        response, call = self._unary(rpc).with_call(self.request(rpc, **fields), timeout=TIMEOUT_S, metadata=metadata)
        return response, trailers(call)

    def stream(self, rpc: str, **fields: Any) -> Any:
        """Return the call of a server-streaming RPC, to be iterated."""
        answer = message_factory.GetMessageClass(self._methods[rpc].output_type)
        method: Any = self.channel.unary_stream(
            f"/{SERVICE}/{rpc}", lambda message: message.SerializeToString(), answer.FromString
        )
        return method(self.request(rpc, **fields), timeout=TIMEOUT_S)

    def raw(self, rpc: str, data: bytes) -> bytes:
        """Make a unary call whose request is whatever bytes are given."""
        method: Any = self.channel.unary_unary(f"/{SERVICE}/{rpc}")
        answer: bytes = method(data, timeout=TIMEOUT_S)
        return answer

    def refusal(
        self, rpc: str, metadata: Metadata | None = None, **fields: Any
    ) -> tuple[grpc.StatusCode, dict[str, str]]:
        """Return status and trailers of a call that must not end with OK; a streaming one is read to its end."""
        try:
            if self._methods[rpc].server_streaming:
                answer: Any = list(self.stream(rpc, **fields))
            else:
                answer = self.call(rpc, metadata, **fields)
        except grpc.RpcError as error:
            assert not exposes_internals(error.details() or ""), error.details()
            return error.code(), trailers(error)
        raise AssertionError(f"{rpc} was answered: {answer}")

    def _unary(self, rpc: str) -> Any:
        answer = message_factory.GetMessageClass(self._methods[rpc].output_type)
        return self.channel.unary_unary(
            f"/{SERVICE}/{rpc}", lambda message: message.SerializeToString(), answer.FromString
        )


def trailers(call: Any) -> dict[str, str]:
    return {name: value for name, value in call.trailing_metadata() or () if name.startswith("wmkr-")}


def exposes_internals(text: str) -> bool:
    """Return True if an error shows its callers what only the log should hold."""
    return any(sign in text for sign in ("Traceback", "Exception", "Error(", ".py", " object at 0x"))
