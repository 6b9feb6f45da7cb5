"""The public contract is what it was when it was published, and the generated code is what it says.

The comparison runs both ways over every fact of the contract, and it is itself tested: each kind of change
that could break a peer is planted in a copy and must be found.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from tests.kit.contract_facts import differences, facts, published_contract
from waymaker_proto import waymaker_streams_pb2, waymaker_streams_pb2_grpc

PROTO_ROOT = Path(__file__).resolve().parents[3] / "proto"


def served_contract() -> FileDescriptorProto:
    """The descriptor that the generated code registers, serves and reflects."""
    contract = FileDescriptorProto()
    waymaker_streams_pb2.DESCRIPTOR.CopyToProto(contract)
    return contract


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("proto_generate", PROTO_ROOT / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_contract_agrees_with_the_published_one_in_every_fact() -> None:
    assert differences(served_contract(), published_contract()) == []


def test_the_comparison_covers_the_whole_contract() -> None:
    published = published_contract()
    table = facts(published)
    kinds = [key.split(" ")[0] for key in table]
    assert kinds.count("message") == len(published.message_type) > 100
    assert kinds.count("field") == sum(len(message.field) for message in published.message_type) > 400
    assert kinds.count("rpc") == sum(len(service.method) for service in published.service) > 40
    assert kinds.count("value") == sum(len(enum.value) for enum in published.enum_type) > 10


def _message(contract: FileDescriptorProto, name: str) -> int:
    return [message.name for message in contract.message_type].index(name)


def _field(contract: FileDescriptorProto, message: str, name: str) -> FieldDescriptorProto:
    for field in contract.message_type[_message(contract, message)].field:
        if field.name == name:
            return field
    raise AssertionError(f"{message}.{name} is not there")


def renumber_a_field(contract: FileDescriptorProto) -> None:
    _field(contract, "PublishRequest", "payload").number = 30


def change_a_type(contract: FileDescriptorProto) -> None:
    _field(contract, "PublishResponse", "seq").type = FieldDescriptorProto.TYPE_INT64


def change_a_message_type(contract: FileDescriptorProto) -> None:
    _field(contract, "GetStreamInfoResponse", "stats").type_name = ".waymaker.streams.StreamConfigPb"


def make_a_field_repeated(contract: FileDescriptorProto) -> None:
    _field(contract, "FetchRequest", "batch_size").label = FieldDescriptorProto.LABEL_REPEATED


def drop_presence(contract: FileDescriptorProto) -> None:
    field = _field(contract, "PublishRequest", "expected_last_seq")
    field.ClearField("proto3_optional")
    field.ClearField("oneof_index")


def leave_a_oneof(contract: FileDescriptorProto) -> None:
    _field(contract, "SubscribeEvent", "stopped").ClearField("oneof_index")


def rename_a_field(contract: FileDescriptorProto) -> None:
    _field(contract, "AckRequest", "seq").name = "sequence"


def unpack_a_field(contract: FileDescriptorProto) -> None:
    _field(contract, "ConsumerStateSnapshot", "pending").options.packed = False


def drop_a_field(contract: FileDescriptorProto) -> None:
    del contract.message_type[_message(contract, "NakRequest")].field[-1]


def drop_a_message(contract: FileDescriptorProto) -> None:
    del contract.message_type[_message(contract, "QueueLenResponse")]


def add_a_message(contract: FileDescriptorProto) -> None:
    contract.message_type.add(name="Novelty")


def reserve_a_number(contract: FileDescriptorProto) -> None:
    contract.message_type[0].reserved_range.add(start=90, end=91)


def renumber_an_enum_value(contract: FileDescriptorProto) -> None:
    contract.enum_type[0].value[1].number = 7


def drop_an_enum_value(contract: FileDescriptorProto) -> None:
    del contract.enum_type[-1].value[-1]


def drop_an_rpc(contract: FileDescriptorProto) -> None:
    del contract.service[0].method[3]


def add_an_rpc(contract: FileDescriptorProto) -> None:
    contract.service[0].method.add().CopyFrom(contract.service[0].method[0])
    contract.service[0].method[-1].name = "CreateStreamTwice"


def stream_a_unary_answer(contract: FileDescriptorProto) -> None:
    contract.service[0].method[0].server_streaming = True


def stop_streaming_requests(contract: FileDescriptorProto) -> None:
    (method,) = (m for m in contract.service[0].method if m.client_streaming)
    method.client_streaming = False


def change_what_an_rpc_answers(contract: FileDescriptorProto) -> None:
    contract.service[0].method[0].output_type = ".waymaker.streams.DeleteStreamResponse"


def rename_the_package(contract: FileDescriptorProto) -> None:
    contract.package = "waymaker.streams.v2"


CHANGES: list[Callable[[FileDescriptorProto], None]] = [
    renumber_a_field,
    change_a_type,
    change_a_message_type,
    make_a_field_repeated,
    drop_presence,
    leave_a_oneof,
    rename_a_field,
    unpack_a_field,
    drop_a_field,
    drop_a_message,
    add_a_message,
    reserve_a_number,
    renumber_an_enum_value,
    drop_an_enum_value,
    drop_an_rpc,
    add_an_rpc,
    stream_a_unary_answer,
    stop_streaming_requests,
    change_what_an_rpc_answers,
    rename_the_package,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_of_the_contract_does_not_pass_unseen(change: Callable[[FileDescriptorProto], None]) -> None:
    changed = served_contract()
    change(changed)
    assert differences(changed, published_contract()) != []
    assert differences(published_contract(), changed) != []


def test_a_difference_names_what_differs_and_how() -> None:
    changed = served_contract()
    renumber_a_field(changed)
    (difference,) = differences(changed, published_contract())
    assert difference.startswith("field waymaker.streams.PublishRequest.payload: here '= 30 ")
    assert "there '= 3 " in difference


def test_the_servicer_offers_every_rpc_of_the_contract() -> None:
    offered = {name for name in vars(waymaker_streams_pb2_grpc.WaymakerStreamsServiceServicer) if name[0] != "_"}
    assert offered == {method.name for method in published_contract().service[0].method}


def test_the_descriptor_is_registered_under_a_name_of_its_own() -> None:
    assert waymaker_streams_pb2.DESCRIPTOR.name == "waymaker_proto/waymaker_streams.proto"


@pytest.mark.slow
def test_the_committed_code_is_what_the_generator_writes(tmp_path: Path) -> None:
    generate = generator()
    fresh = {path.name: path.read_bytes() for path in generate.generate(tmp_path)}
    committed = {path.name: path.read_bytes() for path in generate.generated_files(PROTO_ROOT)}
    assert sorted(fresh) == sorted(committed)
    stale = [name for name in sorted(fresh) if fresh[name] != committed[name]]
    assert stale == [], "run `make proto` and commit the result"
