"""The stream as it will be when everything staged is applied: look-ups on which decisions are taken.

All of it reads committed state with the overlay over it. What limits push out is decided against this, so that a batch
decided while another one is being synced leaves exactly what one after the other would have left.
"""

from __future__ import annotations

from waymaker_core.stream.stream import Stream


def block_figures(stream: Stream, number: int) -> tuple[int, int]:
    """Return the messages and bytes that are live in a block, in the projection."""
    block = stream.blocks.get(number)
    delta = stream.overlay.blocks.get(number)
    if block is None:
        return (delta[0], delta[1]) if delta is not None else (0, 0)
    return (block.alive, block.bytes) if delta is None else (block.alive + delta[0], block.bytes + delta[1])


def first_block(stream: Stream) -> int:
    """Return the first block with a live message in the projection, or -1. Also moves the front there."""
    overlay = stream.overlay
    start = (max(overlay.front_seq, overlay.truncate_to, 1) - 1) // stream.block_size
    found = -1
    if stream.blocks and stream.blocks.peekitem(-1)[0] >= start:
        for number in stream.blocks.irange(start):
            if block_figures(stream, number)[0]:
                found = number
                break
    if found < 0:
        found = _first_staged_block(stream, start)
    if found >= 0:
        overlay.front_seq = max(overlay.front_seq, found * stream.block_size + 1)
    return found


def _first_staged_block(stream: Stream, start: int) -> int:
    overlay = stream.overlay
    for place in range(overlay.place_from(start * stream.block_size + 1), len(overlay.staged)):
        for number, _, _ in overlay.staged[place].parts:
            if number >= start and block_figures(stream, number)[0]:
                return number
    return -1


def has_staged(stream: Stream, number: int) -> bool:
    """Return True if messages that are not committed fall into a block."""
    overlay = stream.overlay
    return bool(overlay.staged) and number >= stream.block_of(overlay.staged[0].first_seq)


def size_of(stream: Stream, seq: int) -> int:
    """Return the size of a message that is live in the projection. `NeedBlocks`."""
    if seq <= stream.last_seq:
        block = stream.blocks[stream.block_of(seq)]
        return block.resident().sizes[seq - block.first]
    found = stream.overlay.find_staged(seq)
    assert found is not None, "a live sequence is committed or staged"
    return found[0].sizes[found[1]]


def last_size(stream: Stream, number: int) -> int:
    """Return the size of the last message that is live in a block, in the projection; there is one. `NeedBlocks`."""
    overlay, end = stream.overlay, (number + 1) * stream.block_size
    for place in reversed(range(overlay.place_from(number * stream.block_size + 1), len(overlay.staged))):
        publish = overlay.staged[place]
        for entry in reversed(range(publish.entry_from(end + 1) if publish.last_seq > end else len(publish.sizes))):
            seq = publish.seq_of(entry)
            if stream.block_of(seq) < number:
                break
            if not overlay.is_dropped(seq):
                return publish.sizes[entry]
    block = stream.blocks[number]
    if block.is_live(block.last) and not overlay.is_dropped(block.last):
        return block.last_size
    sizes = block.resident().sizes
    for entry in reversed(range(block.head, block.size)):
        seq = block.first + entry
        if block.is_live(seq) and not overlay.is_dropped(seq):
            return sizes[entry]
    raise AssertionError("the block holds a live message")


def live_run(stream: Stream, number: int, seq: int, count_max: int) -> tuple[list[int], list[int]]:
    """Return sequences and sizes of the first live messages of a block from `seq` on, in the projection. `NeedBlocks`."""
    seqs: list[int] = []
    sizes: list[int] = []
    overlay = stream.overlay
    drops, seq = overlay.drops, max(seq, overlay.truncate_to)
    block = stream.blocks.get(number)
    if block is not None and block.last >= seq:
        column = block.resident().sizes
        entry = block.next_live(max(0, seq - block.first))
        while entry < block.size and len(seqs) < count_max:
            if block.first + entry not in drops:
                seqs.append(block.first + entry)
                sizes.append(column[entry])
            entry = block.next_live(entry + 1)
    end = (number + 1) * stream.block_size
    for place in range(overlay.place_from(max(seq, number * stream.block_size + 1)), len(overlay.staged)):
        publish = overlay.staged[place]
        for entry in range(publish.entry_from(max(seq, number * stream.block_size + 1)), len(publish.sizes)):
            staged_seq = publish.seq_of(entry)
            if len(seqs) == count_max or staged_seq > end:
                return seqs, sizes
            if staged_seq not in drops:
                seqs.append(staged_seq)
                sizes.append(publish.sizes[entry])
    return seqs, sizes
