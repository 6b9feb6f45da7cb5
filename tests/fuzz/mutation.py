"""Mutations of bytes for the plain driver: blind, small, and the same for the same seed."""

from __future__ import annotations

from random import Random

INTERESTING = (0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 4095, 4096, 65535, 65536, 1 << 20,
               (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 53), (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
BYTES_MAX = 1 << 17


def mutated(random: Random, corpus: list[bytes], tokens: tuple[bytes, ...]) -> bytes:
    """One of the corpus, changed in one to a few places."""
    data = bytearray(random.choice(corpus))
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        _change(random, data, corpus, tokens)
    return bytes(data[:BYTES_MAX])


def _change(random: Random, data: bytearray, corpus: list[bytes], tokens: tuple[bytes, ...]) -> None:
    at = random.randrange(len(data) + 1)
    match random.randrange(9):
        case 0 if at < len(data):
            data[at] ^= 1 << random.randrange(8)
        case 1 if at < len(data):
            data[at] = random.randrange(256)
        case 2:
            width = random.choice((1, 2, 4, 8))
            value = (random.choice(INTERESTING) + random.choice((0, 0, 0, 1, -1))) % (1 << 8 * width)
            data[at : at + width] = value.to_bytes(width, random.choice(("little", "little", "big")))
        case 3:
            data[at:at] = random.randbytes(random.choice((1, 2, 4, 8, 16)))
        case 4:
            del data[at : at + random.choice((1, 2, 4, 8, 64, 512))]
        case 5:
            source = random.randrange(len(data) + 1)
            piece = data[source : source + random.choice((4, 8, 32, 64, 256))]
            data[at : at + random.choice((0, len(piece)))] = piece
        case 6:
            other = random.choice(corpus)
            data[at:] = other[random.randrange(len(other) + 1) :]
        case 7 if tokens:
            token = random.choice(tokens)
            data[at : at + random.choice((0, len(token)))] = token
        case 8:
            del data[at:]
        case _:
            data.append(random.randrange(256))
