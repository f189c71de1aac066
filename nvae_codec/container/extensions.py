"""Extension blocks: optional parts of an image, a segment or an archive.

    head, varint: 4 · type + 2 (if critical) + 1 (if another block follows) ┬ length, varint ┬ bytes

As with PNG's chunks, a reader that does not know the type of a **critical** block refuses the file, and skips an
**ancillary** one. Types ascend, so there is at most one block of each. An empty list of blocks has no bytes.

To add a block to the format, give it a row in ``TYPES``.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nvae_codec.coding.coded import ADAPTATION_BLOCK, Coded
from nvae_codec.container.fields import LARGEST, ByteReader, Field, pack_sized, pack_varint
from nvae_codec.errors import DamagedFileError, NvaeCodecError

LARGEST_TYPE = LARGEST >> 2


class ExtensionType(NamedTuple):
    """A kind of block: its number in files, its name in messages, and whether a reader must know it."""

    number: int
    name: str
    critical: bool


METADATA = ExtensionType(1, "metadata", critical=True)  # container/metadata.py
ADAPTATION = ExtensionType(ADAPTATION_BLOCK, "adaptation", critical=True)  # changes of the model for these images
SHARD = ExtensionType(3, "shard", critical=False)  # container/archive/shards.py
TIMES = ExtensionType(4, "times", critical=False)  # container/archive/times.py

TYPES = {each.number: each for each in (METADATA, ADAPTATION, SHARD, TIMES)}
"""All types that this release knows. Numbers are never used again; those from 64 on are free for experiments."""

CODER_TYPES = (ADAPTATION.number,)
"""Types that a codec reads, rather than the container."""


class Extension(NamedTuple):
    """One block: ``critical`` says that a reader must not skip it."""

    type: int
    data: bytes
    critical: bool = False

    @property
    def name(self) -> str:
        """The name in messages and in ``nvae-codec info``."""
        return TYPES[self.type].name if self.type in TYPES else f"type {self.type}"


Extensions = tuple[Extension, ...]


def extension(kind: ExtensionType, data: bytes) -> Extension:
    """A block of a known type."""
    return Extension(kind.number, data, kind.critical)


def find_extension(extensions: Iterable[Extension], kind: ExtensionType) -> bytes | None:
    """The bytes of the block of this type, or None."""
    return next((block.data for block in extensions if block.type == kind.number), None)


def pack_coder_blocks(coded: Coded) -> Extensions:
    """The blocks that the codec needs for decoding."""
    return tuple(Extension(number, data, TYPES[number].critical) for number, data in sorted(coded.extensions))


def coder_blocks(*levels: Extensions) -> tuple[tuple[int, bytes], ...]:
    """Types and bytes of the blocks that a codec reads; a segment's block overrides that of its archive."""
    found = {block.type: block.data for blocks in reversed(levels) for block in blocks if block.type in CODER_TYPES}
    return tuple(sorted(found.items()))


def merge_extensions(one: Extensions, other: Extensions, *, alike: bool = False) -> Extensions:
    """The blocks of both, by type. Raises NvaeCodecError if both have a block of one type with different bytes.

    ``alike``: both must have the same critical blocks, because what is critical holds for everything in a file.
    """
    merged = {block.type: block for block in one}
    critical = [{block for block in each if block.critical} for each in (one, other)]
    if alike and critical[0] != critical[1]:
        raise NvaeCodecError(f"they have different extension blocks ({min(critical[0] ^ critical[1]).name})")
    for block in other:
        if merged.setdefault(block.type, block) != block:
            raise NvaeCodecError(f"they have different extension blocks ({block.name})")
    return tuple(merged[number] for number in sorted(merged))


def pack_extensions(extensions: Sequence[Extension]) -> bytes:
    """Blocks with ascending types as bytes; empty without blocks."""
    last = len(extensions) - 1
    out = bytearray()
    for at, block in enumerate(extensions):
        out += pack_varint(4 * block.type + 2 * block.critical + (at < last)) + pack_sized(block.data)
    return bytes(out)


def read_extensions(reader: ByteReader) -> Extensions:
    """Read a block and those that follow it.

    Raises DamagedFileError, also for a critical block of a type that this release does not know.
    """
    found: list[Extension] = []
    follows = True
    while follows:
        head = reader.varint(4 * (found[-1].type + 1) if found else 4, LARGEST)
        block, follows = Extension(head >> 2, reader.sized(), bool(head & 2)), bool(head & 1)
        if block.type not in TYPES and block.critical:
            raise DamagedFileError(
                f"it needs extension block {block.type}, which this nvae-codec does not know: a newer one may read it"
            )
        if block.type in TYPES and block.critical != TYPES[block.type].critical:
            raise DamagedFileError(f"damaged: its {block.name} block has the wrong critical bit")
        found.append(block)
    return tuple(found)


EXTENSIONS = Field(pack_extensions, read_extensions)
"""The field of a table that holds extension blocks, at least one."""
