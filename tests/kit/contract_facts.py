"""A contract as a flat table of facts, so that two contracts can be compared line by line.

The idea: everything a peer on the wire could notice becomes one entry, keyed by the name of the thing and
holding its properties in words. Two contracts agree when their tables are equal, and where they are not, the
differing lines are the explanation. Order of declaration, comments and source positions are no facts.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

SNAPSHOT = Path(__file__).with_name("seed_descriptor.binpb")
"""The contract as it was published first: a descriptor set without comments. It is never written again."""


def published_contract() -> FileDescriptorProto:
    (contract,) = FileDescriptorSet.FromString(SNAPSHOT.read_bytes()).file
    return contract


def facts(contract: FileDescriptorProto) -> dict[str, str]:
    table = {
        "package": contract.package,
        "syntax": contract.syntax,
        "file options": _words(contract.options),
        "imports": " ".join(sorted(contract.dependency)),
    }
    for message in contract.message_type:
        _message_facts(table, contract.package, message)
    for enum in contract.enum_type:
        _enum_facts(table, contract.package, enum)
    for service in contract.service:
        name = f"{contract.package}.{service.name}"
        table[f"service {name}"] = _words(service.options)
        for method in service.method:
            asked = ("stream " if method.client_streaming else "") + method.input_type
            answered = ("stream " if method.server_streaming else "") + method.output_type
            table[f"rpc {name}.{method.name}"] = f"({asked}) returns ({answered}) {_words(method.options)}".rstrip()
    return table


def differences(ours: FileDescriptorProto, theirs: FileDescriptorProto) -> list[str]:
    """Return the differences of the two in words; empty where they agree."""
    left, right = facts(ours), facts(theirs)
    found = []
    for key in sorted(left.keys() | right.keys()):
        if key not in right:
            found.append(f"{key}: only here: {left[key]}")
        elif key not in left:
            found.append(f"{key}: missing here, is: {right[key]}")
        elif left[key] != right[key]:
            found.append(f"{key}: here {left[key]!r}, there {right[key]!r}")
    return found


def _message_facts(table: dict[str, str], scope: str, message: DescriptorProto) -> None:
    name = f"{scope}.{message.name}"
    reserved = [f"{r.start}..{r.end - 1}" for r in message.reserved_range] + list(message.reserved_name)
    table[f"message {name}"] = " ".join([_words(message.options), *reserved]).strip()
    for field in message.field:
        table[f"field {name}.{field.name}"] = _field_words(message, field)
    for nested in message.nested_type:
        _message_facts(table, name, nested)
    for enum in message.enum_type:
        _enum_facts(table, name, enum)


def _field_words(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    words = [
        f"= {field.number}",
        FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower(),
        field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower(),
        f"json {field.json_name or _json_name(field.name)}",
    ]
    if field.proto3_optional:
        words.append("with explicit presence")
    elif field.HasField("oneof_index"):
        words.append(f"in oneof {message.oneof_decl[field.oneof_index].name}")
    if field.HasField("default_value"):
        words.append(f"default {field.default_value}")
    words.append(_words(field.options))
    return " ".join(words).strip()


def _json_name(name: str) -> str:
    """Return the name in JSON of a field that was given no other; serialised descriptors may leave it out."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _enum_facts(table: dict[str, str], scope: str, enum: EnumDescriptorProto) -> None:
    name = f"{scope}.{enum.name}"
    table[f"enum {name}"] = _words(enum.options)
    for value in enum.value:
        table[f"value {name}.{value.name}"] = f"= {value.number} {_words(value.options)}".rstrip()


def _words(options: object) -> str:
    return " ".join(str(options).split())
