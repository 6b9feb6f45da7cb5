"""Subject transforms: the cases that NATS publishes, what is refused and with which words, and a model of each function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymaker_core.model.limits import Limits
from waymaker_core.model.result_codes import INVALID_CONFIG, CodeError
from waymaker_core.model.subjects import Pattern, subject_bytes
from waymaker_core.sources.transform import parse, partition_of

LIMITS = Limits()

PUBLISHED = [
    # The server's tests.
    ("", "prefix.>", "foo", "prefix.foo"),
    ("foo", "", "foo", "foo"),
    ("foo", "bar", "foo", "bar"),
    ("foo.*.bar.*.baz", "req.$2.$1", "foo.A.bar.B.baz", "req.B.A"),
    ("foo.*.bar.*.baz", "req.{{wildcard(2)}}.{{wildcard(1)}}", "foo.A.bar.B.baz", "req.B.A"),
    ("foo.*.*", "bar.$2.{{Wildcard(1)}}", "foo.b.a", "bar.a.b"),
    ("baz.>", "my.pre.>", "baz.1.2.3", "my.pre.1.2.3"),
    ("baz.>", "foo.bar.>", "baz.1.2.3", "foo.bar.1.2.3"),
    ("*", "foo.bar.$1", "foo", "foo.bar.foo"),
    ("*", "{{splitfromleft(1,3)}}", "12345", "123.45"),
    ("*", "{{SplitFromRight(1,3)}}", "12345", "12.345"),
    ("*", "{{SliceFromLeft(1,3)}}", "1234567890", "123.456.789.0"),
    ("*", "{{SliceFromRight(1,3)}}", "1234567890", "1.234.567.890"),
    ("*", "{{split(1,-)}}", "-abc-def--ghi-", "abc.def.ghi"),
    ("*", "{{split(1,-)}}", "abc-def--ghi-", "abc.def.ghi"),
    ("*.*", "{{split(2,-)}}.{{splitfromleft(1,2)}}", "foo.-abc-def--ghij-", "abc.def.ghij.fo.o"),
    ("*", "{{right(1,1)}}", "1234", "4"),
    ("*", "{{right(1,3)}}", "1234", "234"),
    ("*", "{{right(1,6)}}", "1234", "1234"),
    ("*", "{{left(1,1)}}", "1234", "1"),
    ("*", "{{left(1,3)}}", "1234", "123"),
    ("*", "{{left(1,6)}}", "1234", "1234"),
    ("*", "bar.{{partition(0)}}", "baz", "bar.0"),
    ("*", "bar.{{partition(10, 0)}}", "foo", "bar.3"),
    ("*.*", "bar.{{partition(10)}}", "foo.bar", "bar.6"),
    ("*", "bar.{{partition(10)}}", "foo", "bar.3"),
    ("*", "bar.{{partition(10)}}", "baz", "bar.0"),
    ("*", "bar.{{partition(10)}}", "qux", "bar.9"),
    ("*", "{{ Partition (10,1) }}", "foo", "3"),
    # ADR-30.
    (">", "uno.>", "one.two.three", "uno.one.two.three"),
    (">", ">", "one.two.three", "one.two.three"),
    (">", "eins.zwei.drei.vier.>", "four.five.six", "eins.zwei.drei.vier.four.five.six"),
    ("one.>", "uno.>", "one.two.three", "uno.two.three"),
    ("one.two.>", "uno.dos.>", "one.two.three", "uno.dos.three"),
    ("one", "uno", "one", "uno"),
    ("one.*.three.*.five", "uno.$2.$1", "one.two.three.four.five", "uno.four.two"),
    ("*.two.three.>", "uno.$1.>", "one.two.three.four.five", "uno.one.four.five"),
]

OURS = [
    # A final > as the last wildcard.
    ("events.>", "audit.{{wildcard(1)}}", "events.a.b", "audit.a.b"),
    ("events.>", "{{wildcard(1)}}.audit", "events.a.b", "a.b.audit"),
    ("*.x.>", "$2.$1", "a.x.b.c", "b.c.a"),
    ("*.x.>", "$2.$1.>", "a.x.b.c", "b.c.a.b.c"),
    ("", "a.$1", "x.y", "a.x.y"),
    ("a.>", "b.{{partition(10,1)}}.>", "a.foo.bar", "b.6.foo.bar"),
    # Several tokens make one key, one after the other without a dot.
    ("*.*", "{{partition(10,1,2)}}", "foo.bar", "0"),
    ("*.*", "{{partition(10,2,1)}}", "bar.foo", "0"),
    ("foo.bar", "baz.{{partition(10)}}", "foo.bar", "baz.6"),
    ("a.*", "{{partition(10, 0)}}.$1", "a.foo", f"{partition_of('a', 10)}.foo"),
    # Lengths that a token does not have leave it whole.
    ("*", "{{splitFromLeft(1,5)}}", "12345", "12345"),
    ("*", "{{splitFromRight(1,5)}}", "12345", "12345"),
    ("*", "{{sliceFromLeft(1,5)}}", "12345", "12345"),
    ("*", "{{sliceFromRight(1,9)}}", "12345", "12345"),
    ("*", "{{sliceFromRight(1,2)}}", "1234", "12.34"),
    # Characters are never torn.
    ("*", "{{splitFromLeft(1,1)}}.{{left(1,1)}}.{{right(1,1)}}", "éß", "é.ß.é.ß"),
    ("*", "{{split(1,--)}}", "a--b-c--", "a.b-c"),
    ("*", "{{split(1, \t-)}}", "a-b", "a.b"),
    ("a.*", "$foo.$.{x}.$1", "a.b", "$foo.$.{x}.b"),
    ("a.*.*", "b", "a.x.y", "b"),
    ("*", "{{left(1,00000000000000000000002)}}", "abc", "ab"),
]


@pytest.mark.parametrize(("pattern", "destination", "subject", "expected"), PUBLISHED + OURS)
def test_a_transform_maps_as_published(pattern: str, destination: str, subject: str, expected: str) -> None:
    transform = parse(pattern, destination, LIMITS)
    assert transform.apply(subject) == expected
    assert transform.fault(subject) == ""


REFUSED = [
    # The server's tests.
    ("foo..", "bar", "not a subject pattern"),
    ("foo.*", "bar.*", "{{wildcard(1)}}"),
    ("foo.*", "bar.$2", "wildcards 1 to 1"),
    ("foo.*", "bar.$1.>", "does not: end both with > or neither"),
    ("foo.>", "bar.baz", "end it with > or write {{wildcard(1)}}"),
    ("foo.*", "foo.{{wildcard(2)}}", "wildcards 1 to 1"),
    ("foo.*", "foo.{{unimplemented(1)}}", "there are left, partition, right"),
    ("foo.*", "foo.{{partition()}}", "{{partition(10,1)}}"),
    ("foo.*", "foo.{{wildcard(foo)}}", "not a whole number"),
    ("foo.*", "foo.{{wildcard()}}", "right is {{wildcard(n)}}"),
    ("foo.*", "foo.{{wildcard(1,2)}}", "right is {{wildcard(n)}}"),
    ("foo.*", "foo.{{ wildcard5) }}", "not a function"),
    ("foo.*", "foo.{{splitLeft(2,2}}", "not a function"),
    ("foo", "bla.{{wildcard(1)}}", "has no wildcards"),
    ("events.*", "events.{{split(3,1)}}", "wildcards 1 to 1"),
    ("events.*.*", "events.{{wildcard(1)}}{{split(3,1)}}", "not a function"),
    # Ours.
    ("a.*", "$0", "wildcards 1 to 1"),
    ("a.*", "$-1", "not a whole number"),
    ("a.*", "{{wildcard(0)}}", "wildcards 1 to 1"),
    ("a.*", "{{partition(10,2)}}", "wildcards 1 to 1"),
    ("a.*", "{{partition(2147483648)}}", "2,147,483,647"),
    ("a.*", "{{partition(-1)}}", "not a whole number"),
    ("a.*", "{{random(10)}}", "not a function"),
    ("a.*", "{{WILDCARD(1)}}", "in this spelling"),
    ("a.*", "{{sPlit(1,-)}}", "in this spelling"),
    ("a.*", "x-{{wildcard(1)}}", "whole token"),
    ("a.*", "{{wildcard(1)}}-x", "whole token"),
    ("a.*", "{{}}", "not a function"),
    ("a.*", "{{wildcard(1)", "not a function"),
    ("a.*", "wildcard(1)}}", "not a function"),
    ("a.*", "{{split(1,.)}}", "nothing would be split"),
    ("a.*", "{{split(1,*)}}", "nothing would be split"),
    ("a.*", "{{split(1,- )}}", "nothing would be split"),
    ("a.*", "{{split(1,)}}", "needs a separator"),
    ("a.*", "{{split(1)}}", "right is {{split(n,separator)}}"),
    ("a.*", "{{split(1,-,x)}}", "right is {{split(n,separator)}}"),
    ("a.*", "{{left(1,0)}}", "from 1"),
    ("a.*", "{{left(1,-2)}}", "not a whole number"),
    ("a.*", "{{sliceFromLeft(1,0)}}", "from 1"),
    ("a.*", "{{left(1)}}", "right is {{left(n,length)}}"),
    ("a.*", "{{left(1,x)}}", "not a whole number"),
    ("a.*", "{{left(1,٣)}}", "not a whole number"),
    ("a.>", "{{split(1,-)}}", "only wildcard and partition"),
    ("a.>", "{{left(1,2)}}.>", "only wildcard and partition"),
    ("a.*.>", "b.$1", "{{wildcard(2)}}"),
    ("a.>", "b.>.c", "last token"),
    ("a.>", ">.>", "last token"),
    ("a", "b..c", "it is empty"),
    ("a", ".b", "it is empty"),
    ("a", "b.", "it is empty"),
    ("a", ".", "it is empty"),
    ("a", "b c", "white space"),
    ("a", "b\nc", "white space"),
    ("a", "b*", "wildcard"),
    ("a", "b>", "wildcard"),
    ("a", "\ud800", "cannot be a token"),
    ("a", "b" * 1025, "1,024 bytes"),
    ("a.>.b", "b", "not a subject pattern"),
    ("a b", "b", "not a subject pattern"),
    ("a" * 1025, "b", "not a subject pattern"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "destination", "words"), REFUSED)
def test_a_bad_transform_is_refused_and_told_what_would_be_right(pattern: str, destination: str, words: str) -> None:
    with pytest.raises(CodeError) as refused:
        parse(pattern, destination, LIMITS)
    assert refused.value.code == INVALID_CONFIG
    assert words in refused.value.message
    assert len(refused.value.message) < 500


@pytest.mark.parametrize("name", ["splitfromleft", "splitFromLeft", "SplitFromLeft", "Splitfromleft", "SPlitfromleft"])
def test_a_name_may_begin_its_words_with_capitals(name: str) -> None:
    if name == "SPlitfromleft":
        with pytest.raises(CodeError):
            parse("*", f"{{{{{name}(1,2)}}}}", LIMITS)
    else:
        assert parse("*", f"{{{{{name}(1,2)}}}}", LIMITS).apply("abc") == "ab.c"


@pytest.mark.parametrize(
    ("pattern", "destination", "subject", "words"),
    [
        ("a.*", "b.$1", "b.x", "does not match"),
        ("a.*", "b.$1", "a.x.y", "does not match"),
        ("a.>", "b.>", "a", "does not match"),
        ("*", "{{split(1,-)}}", "---", "it is empty"),
        ("*", "x.{{split(1,-)}}", "-", "empty token"),
        ("*", "$1.$1.$1", "x" * 400, "1202 bytes"),
    ],
)
def test_a_subject_without_a_result_is_told_why(pattern: str, destination: str, subject: str, words: str) -> None:
    transform = parse(pattern, destination, LIMITS)
    assert transform.apply(subject) is None
    assert words in transform.fault(subject)


def test_partitions_are_those_of_fnv_1a() -> None:
    # Vectors of the hash's authors (draft-eastlake-fnv).
    assert partition_of("", 1 << 32) == 0x811C9DC5
    assert partition_of("a", 1 << 32) == 0xE40C292C
    assert partition_of("foobar", 1 << 32) == 0xBF9CF968
    assert partition_of("x", 0) == 0


# ---------------------------------------------------------------- properties

token = st.text("ab-é1", min_size=1, max_size=6)
subjects = st.lists(token, min_size=1, max_size=4).map(".".join)


@given(token, st.integers(1, 8))
def test_functions_of_one_token_agree_with_their_definitions(text: str, size: int) -> None:
    def made(function: str) -> str | None:
        return parse("*", f"{{{{{function}(1,{size})}}}}", LIMITS).apply(text)

    inside = size < len(text)
    assert made("left") == text[:size]
    assert made("right") == "".join(reversed("".join(reversed(text))[:size]))
    assert made("splitFromLeft") == (text[:size] + "." + text[size:] if inside else text)
    assert made("splitFromRight") == (text[:-size] + "." + text[-size:] if inside else text)
    pieces, rest = [], text
    while rest:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert made("sliceFromLeft") == ".".join(pieces)
    pieces, rest = [], text
    while rest:
        pieces.insert(0, rest[-size:])
        rest = rest[:-size]
    assert made("sliceFromRight") == ".".join(pieces)


@given(token, st.sampled_from(["-", "a", "--", "é"]))
def test_split_keeps_what_is_between_separators(text: str, separator: str) -> None:
    made = parse("*", f"{{{{split(1,{separator})}}}}", LIMITS).apply(text)
    wanted = [piece for piece in text.split(separator) if piece]
    assert made == (".".join(wanted) if wanted else None)


patterns = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3).map(".".join)
pieces = st.sampled_from(
    ["a", "x", "$1", "$2", "{{wildcard(1)}}", "{{partition(3,1)}}", "{{partition(3)}}", "{{split(1,-)}}", "{{left(1,2)}}",
     "{{sliceFromRight(2,2)}}", ">", "*", "", "{{", "}}", "{{x}}"]
)  # fmt: skip


@given(patterns, st.booleans(), st.lists(pieces, max_size=4).map(".".join), subjects)
def test_what_comes_out_is_a_subject_or_told_why_not(pattern: str, tail: bool, destination: str, subject: str) -> None:
    pattern += ".>" if tail else ""
    try:
        transform = parse(pattern, destination, LIMITS)
    except CodeError as refused:
        assert refused.code == INVALID_CONFIG
        return
    result = transform.apply(subject)
    assert (result is None) == bool(transform.fault(subject))
    if not Pattern(pattern).matches(subject):
        assert result is None
    if result is not None:
        assert subject_bytes(result, LIMITS) > 0
        assert transform.apply(subject) == result


@given(st.text("{}()$.*>,a1 -splitwldcr", max_size=20), subjects)
def test_any_text_is_refused_or_a_transform(destination: str, subject: str) -> None:
    for pattern in ("*.*", "*.>", "a"):
        try:
            parse(pattern, destination, LIMITS).apply(subject)
        except CodeError as refused:
            assert refused.code == INVALID_CONFIG
