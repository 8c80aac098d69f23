"""Damage to files, drawn by a seeded generator: pure functions, bytes and a ``Random`` in, bytes out.

Half of it knows nothing of what it damages (cuts, flips, runs). The other half takes a file apart into its parts (MP4 boxes,
Matroska elements, AVI chunks) or packets (MPEG-TS) and lies about them: sizes, counts, times, kinds, order. Damage inside a
part can leave the sizes of those around it true, so that it is met deep inside a demultiplexer and not at its door.

``mutated(data, rng)`` strings a few of them together and names them. The same generator, the same damage.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

Mutation = Callable[[bytes, Random], bytes]

# what counters, sizes and times are told to be
EXTREMES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
LARGE_EXTREMES = (*EXTREMES, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
MOST_BYTES = 4 << 20  # of a damaged file: runs are doubled, not for ever
TS_PACKET = 188

# ---- cuts, flips and runs ----


def truncate(data: bytes, rng: Random) -> bytes:
    """The end is missing."""
    return data[: rng.randrange(len(data) + 1)]


def truncate_little(data: bytes, rng: Random) -> bytes:
    """The last few bytes are missing."""
    return data[: max(0, len(data) - rng.randrange(1, 64))]


def behead(data: bytes, rng: Random) -> bytes:
    """The beginning is missing."""
    return data[rng.randrange(1, max(2, min(len(data), 4096))) :]


def flip_bits(data: bytes, rng: Random) -> bytes:
    """Single bits are wrong, anywhere."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64, 512))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def flip_header_bits(data: bytes, rng: Random) -> bytes:
    """Single bits are wrong, at the beginning or the end, where headers and indices are."""
    damaged = bytearray(data)
    reach = min(len(damaged), 2048)
    for _ in range(rng.choice((1, 2, 4, 16))):
        place = rng.randrange(reach)
        damaged[place if rng.random() < 0.5 else -1 - place] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwrite(data: bytes, rng: Random) -> bytes:
    """A run of bytes is lost: zeros, ones, noise, or one byte again and again."""
    start, end = _run(data, rng)
    length = end - start
    fill = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length), rng.randbytes(1) * length))
    return data[:start] + fill + data[end:]


def delete(data: bytes, rng: Random) -> bytes:
    """A run of bytes is missing."""
    start, end = _run(data, rng)
    return data[:start] + data[end:]


def repeat(data: bytes, rng: Random) -> bytes:
    """A run of bytes is there again."""
    start, end = _run(data, rng)
    return data[:end] + data[start:end] * rng.choice((1, 2, 16)) + data[end:]


def move(data: bytes, rng: Random) -> bytes:
    """A run of bytes stands elsewhere."""
    start, end = _run(data, rng)
    rest = data[:start] + data[end:]
    place = rng.randrange(len(rest) + 1)
    return rest[:place] + data[start:end] + rest[place:]


def insert_noise(data: bytes, rng: Random) -> bytes:
    """Bytes that belong to nothing."""
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.choice((1, 3, 16, 256, 4096))) + data[place:]


def extreme_number(data: bytes, rng: Random) -> bytes:
    """Some number is as large or as small as it can be, anywhere."""
    return _with_extreme(data, rng, 0, len(data))


def splice(data: bytes, other: bytes, rng: Random) -> bytes:
    """The beginning of one file, the end of another."""
    if rng.random() < 0.5:  # a header swapped
        length = rng.choice((4, 8, 16, 64, 512))
        return other[:length] + data[length:]
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _run(data: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    length = rng.choice((1, 4, 16, 188, 1024, 1 + len(data) // 8))
    return start, min(len(data), start + length)


def _with_extreme(data: bytes, rng: Random, start: int, end: int) -> bytes:
    """One number between two places overwritten by an extreme one."""
    width = rng.choice([width for width in (1, 2, 4, 8) if width <= end - start] or [0])
    if not width:
        return data
    value = rng.choice(LARGE_EXTREMES) if rng.random() < 0.8 else rng.getrandbits(64)
    place = start + rng.randrange((end - start - width) // width + 1) * width
    number = (value & ((1 << 8 * width) - 1)).to_bytes(width, rng.choice(("big", "little")))
    return data[:place] + number + data[place + width :]


# ---- files as parts ----


@dataclass(frozen=True)
class Part:
    """A box, element or chunk: ``start`` of its head, ``body`` of its content, ``end``; sizes stand at ``size_at``."""

    kind: bytes
    start: int
    body: int
    end: int
    size_at: int
    size_bytes: int
    parents: tuple[Part, ...] = ()
    is_master: bool = False


MP4_MASTERS = frozenset(
    b"moov trak mdia minf stbl dinf edts udta mvex moof traf meta ilst dref stsd avc1 hvc1 hev1 mp4v av01 vp09 jpeg".split()
)
# bytes between a master's head and its first child
MP4_SKIPS = {
    b"meta": 4,
    b"dref": 8,
    b"stsd": 8,
    **dict.fromkeys((b"avc1", b"hvc1", b"hev1", b"mp4v", b"av01", b"vp09", b"jpeg"), 78),
}
EBML_MASTERS = frozenset(
    bytes.fromhex(name)
    for name in "1a45dfa3 18538067 114d9b74 4dbb 1549a966 1f43b675 a0 1654ae6b ae e0 e1 1c53bb6b bb b7 1254c367 7373".split()
)
EBML_NUMBERS = frozenset(  # times, sizes, counts
    bytes.fromhex(name)
    for name in "2ad7b1 4489 e7 d7 83 b0 ba 54b0 54ba 54b2 23e383 9b b3 f7 f1 536e 42f2 42f3 9a 55ee".split()
)


def parts_of(data: bytes) -> list[Part]:
    """All parts of a file, those inside others too; none of what is not taken apart here."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return list(_mp4_parts(data, 0, len(data), ()))
    if data.startswith(b"\x1aE\xdf\xa3"):
        return list(_ebml_parts(data, 0, len(data), ()))
    if data.startswith(b"RIFF"):
        return list(_riff_parts(data, 0, len(data), ()))
    return []


def _mp4_parts(data: bytes, start: int, end: int, parents: tuple[Part, ...]) -> Iterator[Part]:
    while start + 8 <= end and len(parents) < 12:
        size, kind, body = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], start + 8
        size_at, size_bytes = start, 4
        if size == 1 and start + 16 <= end:
            size, body, size_at, size_bytes = int.from_bytes(data[body : body + 8], "big"), start + 16, start + 8, 8
        stop = min(end, start + size) if size >= body - start else end
        part = Part(kind, start, body, stop, size_at, size_bytes, parents, kind in MP4_MASTERS)
        yield part
        if part.is_master:
            yield from _mp4_parts(data, min(stop, body + MP4_SKIPS.get(kind, 0)), stop, (*parents, part))
        start = max(stop, start + 8)


def _ebml_parts(data: bytes, start: int, end: int, parents: tuple[Part, ...]) -> Iterator[Part]:
    while start + 2 <= end and len(parents) < 12:
        id_bytes = 9 - data[start].bit_length()
        size_at = start + id_bytes
        if id_bytes > 4 or size_at >= end:
            return
        size_bytes = 9 - data[size_at].bit_length()
        body = size_at + size_bytes
        if size_bytes > 8 or body > end:
            return
        size = int.from_bytes(data[size_at:body], "big") & ((1 << 7 * size_bytes) - 1)
        is_unknown = size == (1 << 7 * size_bytes) - 1
        stop = end if is_unknown else min(end, body + size)
        kind = data[start:size_at]
        part = Part(kind, start, body, stop, size_at, size_bytes, parents, kind in EBML_MASTERS)
        yield part
        if part.is_master:
            yield from _ebml_parts(data, body, stop, (*parents, part))
        start = stop


def _riff_parts(data: bytes, start: int, end: int, parents: tuple[Part, ...]) -> Iterator[Part]:
    while start + 8 <= end and len(parents) < 8:
        kind, size = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
        is_master = kind in (b"RIFF", b"LIST")
        body = start + (12 if is_master else 8)
        stop = max(body, min(end, start + 8 + size))
        part = Part(kind, start, body, stop, start + 4, 4, parents, is_master)
        yield part
        if is_master:
            yield from _riff_parts(data, body, stop, (*parents, part))
        start = stop + stop % 2


def _with_size(data: bytes, part: Part, size: int) -> bytes:
    """``part`` with its size field saying something, as wide as the field is."""
    if data.startswith(b"\x1aE\xdf\xa3"):
        width = part.size_bytes
        field = ((1 << 7 * width) | (size & ((1 << 7 * width) - 1))).to_bytes(width, "big")
    else:
        order = "little" if data.startswith(b"RIFF") else "big"
        field = (size & ((1 << 8 * part.size_bytes) - 1)).to_bytes(part.size_bytes, order)  # type: ignore[arg-type]
    return data[: part.size_at] + field + data[part.size_at + len(field) :]


def _stated_size(data: bytes, part: Part) -> int:
    field = data[part.size_at : part.size_at + part.size_bytes]
    if data.startswith(b"\x1aE\xdf\xa3"):
        return int.from_bytes(field, "big") & ((1 << 7 * part.size_bytes) - 1)
    return int.from_bytes(field, "little" if data.startswith(b"RIFF") else "big")


def _exchanged(data: bytes, part: Part, new: bytes, *, is_told: bool) -> bytes:
    """The file with other bytes for a whole part; with ``is_told`` the parts around it know of the new length."""
    longer = len(new) - (part.end - part.start)
    if is_told:
        for parent in part.parents:  # their size fields stand before the part
            data = _with_size(data, parent, _stated_size(data, parent) + longer)
    return data[: part.start] + new + data[part.end :]


def _chosen(data: bytes, rng: Random, kinds: Sequence[bytes] = ()) -> Part | None:
    """A part of one of the kinds, or any: rather a small one, as headers are, than one full of pictures."""
    parts = [part for part in parts_of(data) if not kinds or part.kind in kinds]
    if not parts:
        return None
    few = [part for part in parts if part.end - part.start < 4096]
    return rng.choice(few if few and rng.random() < 0.8 else parts)


def lie_about_size(data: bytes, rng: Random) -> bytes:
    """A part says that it is larger or smaller than it is."""
    part = _chosen(data, rng)
    if part is None:
        return extreme_number(data, rng)
    size = part.end - part.start
    return _with_size(data, part, rng.choice((*LARGE_EXTREMES, size - 1, size + 1, size * 2, size // 2, len(data))))


def lie_in_part(data: bytes, rng: Random) -> bytes:
    """A number in a header is extreme: a count, a time, a width, a rate."""
    parts = [part for part in parts_of(data) if not part.is_master and 0 < part.end - part.body <= 4096]
    if not parts:
        return extreme_number(data, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        part = rng.choice(parts)
        # the first bytes hold counts and times
        end = part.end if rng.random() < 0.5 else min(part.end, part.body + 32)
        data = _with_extreme(data, rng, part.body, end)
    return data


def remove_part(data: bytes, rng: Random) -> bytes:
    """A part is missing."""
    part = _chosen(data, rng)
    return delete(data, rng) if part is None else _exchanged(data, part, b"", is_told=rng.random() < 0.7)


def repeat_part(data: bytes, rng: Random) -> bytes:
    """A part is there again, beside itself or inside itself."""
    part = _chosen(data, rng)
    if part is None:
        return repeat(data, rng)
    whole = data[part.start : part.end]
    return _exchanged(data, part, whole * rng.choice((2, 3, 40)), is_told=rng.random() < 0.7)


def swap_parts(data: bytes, rng: Random) -> bytes:
    """A part stands where another should."""
    first, second = _chosen(data, rng), _chosen(data, rng)
    if first is None or second is None:
        return move(data, rng)
    return _exchanged(data, first, data[second.start : second.end], is_told=rng.random() < 0.7)


def rename_part(data: bytes, rng: Random) -> bytes:
    """A part says that it is of another kind."""
    part, other = _chosen(data, rng), _chosen(data, rng)
    if part is None or other is None:
        return flip_header_bits(data, rng)
    place = data.index(part.kind, part.start)
    kind = other.kind if len(other.kind) == len(part.kind) else rng.randbytes(len(part.kind))
    return data[:place] + kind + data[place + len(kind) :]


def cut_part(data: bytes, rng: Random) -> bytes:
    """A part ends too early, and says so or not."""
    part = _chosen(data, rng)
    if part is None or part.end <= part.body:
        return truncate(data, rng)
    end = rng.randrange(part.body, part.end)
    shorter = _exchanged(data, part, data[part.start : end], is_told=rng.random() < 0.7)
    return _with_size(shorter, part, _stated_size(data, part) - (part.end - end)) if rng.random() < 0.7 else shorter


def remove_stream(data: bytes, rng: Random) -> bytes:
    """A stream's header is missing, or in MPEG-TS all its packets."""
    if is_ts(data):
        packets = _packets(data)
        pid = _pid(rng.choice(packets))
        return b"".join(packet for packet in packets if _pid(packet) != pid)
    part = _chosen(data, rng, (b"trak", b"\xae", b"LIST", b"mdia", b"stbl", b"strh", b"strf"))
    return remove_part(data, rng) if part is None else _exchanged(data, part, b"", is_told=True)


# ---- times ----

TIMES = {  # of MP4: bytes before the table, of an entry, of the number inside it
    b"stts": (8, 8, 4),
    b"ctts": (8, 8, 4),
    b"elst": (8, 12, 0),
    b"stss": (8, 4, 0),
    b"stco": (8, 4, 0),
    b"stsz": (12, 4, 0),
    b"trun": (12, 4, 0),
    b"tfdt": (4, 4, 0),
    b"mdhd": (12, 4, 0),
    b"mvhd": (12, 4, 0),
    b"sidx": (8, 4, 0),
}


def scramble_times(data: bytes, rng: Random) -> bytes:
    """Timestamps jump, go backwards, stand still, or are beyond all reason."""
    if is_ts(data):
        return _scramble_ts_times(data, rng)
    if data.startswith(b"\x1aE\xdf\xa3"):
        return _scramble_ebml_times(data, rng)
    if data.startswith(b"RIFF"):
        part = _chosen(data, rng, (b"strh", b"avih", b"idx1", b"indx", b"strf"))
        return lie_in_part(data, rng) if part is None else _with_extreme(data, rng, part.body, part.end)
    part = _chosen(data, rng, tuple(TIMES))
    if part is None:
        return lie_in_part(data, rng)
    first, entry, at = TIMES[part.kind]
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 3, 30))):
        count = (part.end - part.body - first) // entry
        if count > 0:
            place = part.body + first + rng.randrange(count) * entry + at
            value = rng.choice((rng.choice(EXTREMES), rng.getrandbits(32), rng.randrange(100_000)))
            damaged[place : place + 4] = value.to_bytes(4, "big")
    return bytes(damaged[: len(data)])


def _scramble_ebml_times(data: bytes, rng: Random) -> bytes:
    parts = parts_of(data)
    blocks = [part for part in parts if part.kind in (b"\xa3", b"\xa1") and part.end - part.body > 4]
    numbers = [part for part in parts if part.kind in EBML_NUMBERS and part.end > part.body]
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 3, 30))):
        if blocks and (rng.random() < 0.6 or not numbers):
            part = rng.choice(blocks)
            damaged[part.body + 1 : part.body + 3] = rng.getrandbits(16).to_bytes(2, "big")  # behind the track's number
        elif numbers:
            part = rng.choice(numbers)
            width = part.end - part.body
            special = struct.pack(">d", rng.choice((float("nan"), float("inf"), -1.0, 1e300, 1e9))) if width == 8 else None
            value = special or (rng.choice(LARGE_EXTREMES) & ((1 << 8 * width) - 1)).to_bytes(width, "big")
            damaged[part.body : part.end] = value
    return bytes(damaged)


def is_ts(data: bytes) -> bool:
    """Whether a file is of MPEG-TS packets."""
    return len(data) > 3 * TS_PACKET and data[0] == data[TS_PACKET] == data[2 * TS_PACKET] == 0x47


def _packets(data: bytes) -> list[bytes]:
    return [data[start : start + TS_PACKET] for start in range(0, len(data), TS_PACKET)]


def _pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


def _scramble_ts_times(data: bytes, rng: Random) -> bytes:
    """The 33-bit PTS and DTS behind the heads of PES packets, and the clock references in adaptation fields."""
    damaged = bytearray(data)
    for number in rng.sample(range(len(data) // TS_PACKET), k=min(len(data) // TS_PACKET, rng.choice((1, 5, 50)))):
        start = number * TS_PACKET
        head = damaged.find(b"\x00\x00\x01", start, start + TS_PACKET - 19)
        place = head + 9 if head >= 0 else start + 6
        bits = rng.choice((0, (1 << 33) - 1, rng.getrandbits(33), rng.randrange(90_000)))
        marked = bytes(
            (0x21 | bits >> 29 & 0xE, bits >> 22 & 0xFF, bits >> 14 & 0xFE | 1, bits >> 7 & 0xFF, bits << 1 & 0xFE | 1)
        )
        damaged[place : place + 5] = marked
    return bytes(damaged)


def mix_packets(data: bytes, rng: Random) -> bytes:
    """MPEG-TS packets are lost, doubled, out of order, out of step, or of another stream."""
    if not is_ts(data):
        return swap_parts(data, rng)
    packets = _packets(data)
    for _ in range(rng.choice((1, 4, 20))):
        at = rng.randrange(len(packets))
        match rng.randrange(6):
            case 0:
                del packets[at]
            case 1:
                packets.insert(at, packets[at])
            case 2:
                other = rng.randrange(len(packets))
                packets[at], packets[other] = packets[other], packets[at]
            case 3:
                packets[at] = packets[at][: rng.randrange(TS_PACKET)]
            case 4:  # another stream's, or the tables'
                pid = rng.choice((0, 1, 17, 0x100, 0x101, 0x1000, 0x1FFF, rng.getrandbits(13)))
                packets[at] = packets[at][:1] + pid.to_bytes(2, "big") + packets[at][3:]
            case _:
                packets[at] = _with_extreme(packets[at], rng, 3, min(len(packets[at]), 40))
        if len(packets) < 2:
            break
    return b"".join(packets)


# ---- all of it ----

MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        *(truncate, truncate_little, behead, flip_bits, flip_header_bits, overwrite, delete, repeat, move, insert_noise),
        *(extreme_number, lie_about_size, lie_in_part, remove_part, repeat_part, swap_parts, rename_part, cut_part),
        *(remove_stream, scramble_times, mix_packets),
    )
}
STRUCTURED = ("lie_about_size", "lie_in_part", "scramble_times", "remove_stream", "mix_packets")


def mutated(data: bytes, rng: Random, others: Sequence[bytes] = ()) -> tuple[bytes, list[str]]:
    """A damaged copy, and the names of what was done to it: one to four things.

    Args:
        data: the file.
        rng: decides.
        others: files whose parts may get into this one.
    """
    names: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        if not data or len(data) > MOST_BYTES:
            break
        if others and rng.random() < 0.06:
            names.append("splice")
            data = splice(data, rng.choice(others), rng)
            continue
        name = rng.choice(STRUCTURED) if rng.random() < 0.4 else rng.choice(list(MUTATIONS))
        names.append(name)
        data = MUTATIONS[name](data, rng)
    return data[:MOST_BYTES], names
