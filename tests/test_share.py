"""What tells other programs about .nvae files agrees with the files, as file(1) and the MIME database read it."""

import io
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import nvae_codec
from nvae_codec.container.archive.index import archive_header
from nvae_codec.container.header import ARCHIVE, MAGIC, VERSION, Kind
from nvae_codec.container.methods import write_file
from nvae_codec.images.raster import RasterImage
from nvae_codec.images.read import read_image
from nvae_codec.pillow import NvaeImageFile
from tests.conftest import PNGSUITE
from tests.fakes import FakeCodec, OneCodec

SHARE = Path(nvae_codec.__file__).parent / "share"
NAMESPACE = {"": "http://www.freedesktop.org/standards/shared-mime-info"}
CODEC = FakeCodec("photo")
CODECS = OneCodec(CODEC)


def image(*shape: int) -> RasterImage:
    return RasterImage.from_pixels(np.zeros(shape, np.uint8))


FILES = {
    "model": (write_file(image(3, 4, 3), "model", CODECS), f"RGB, by model {CODEC.identity[:4].hex()}"),
    "webp": (write_file(image(3, 4, 4), "webp", CODECS), "RGBA, as WebP"),
    "gray": (write_file(image(3, 4), "stored", CODECS), "gray, stored"),
    "alpha": (write_file(image(3, 4, 2), "stored", CODECS), "gray+alpha, stored"),
    "metadata": (write_file(read_image((PNGSUITE / "ccwn2c08.png").read_bytes()), "webp", CODECS), "RGB, as WebP"),
    "file": (write_file(read_image((PNGSUITE / "basn2c16.png").read_bytes()), "stored", CODECS), "stored as its file"),
}
ARCHIVE_FILE = archive_header(CODEC.identity) + bytes(40)


@pytest.mark.skipif(shutil.which("file") is None, reason="needs file(1), which is not installed, to read the magic")
def test_file_recognizes_them(tmp_path: Path) -> None:
    def tell(data: bytes, *options: str) -> str:
        path = tmp_path / "some.nvae"
        path.write_bytes(data)
        command = ["file", "-b", *options, "-m", str(SHARE / "nvae.magic"), str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    for data, words in FILES.values():
        assert tell(data) == f"NVAE lossless image, version 1, {words}"
        assert tell(data, "--mime-type") == "image/x-nvae"
    assert tell(ARCHIVE_FILE) == f"NVAE image archive, version 1, model {CODEC.identity[:4].hex()}"
    assert tell(ARCHIVE_FILE, "--mime-type") == "application/x-nvae-archive"
    for other in (b"", b"\xd6N", b"\xd6N\x01\x00" + bytes(40), b"\x89PNG\r\n\x1a\n" + bytes(40)):
        assert "NVAE" not in tell(other)


def test_the_mime_types_name_the_bytes_that_are_written() -> None:
    types = {node.get("type"): node for node in ET.parse(SHARE / "nvae-codec.xml").getroot()}
    assert set(types) == {"image/x-nvae", "application/x-nvae-archive"}
    assert NvaeImageFile(io.BytesIO(FILES["gray"][0])).get_format_mimetype() in types
    for node in types.values():
        assert [glob.get("pattern") for glob in node.iterfind("glob", NAMESPACE)] == ["*.nvae"]
    matches = types["image/x-nvae"].find("magic/match", NAMESPACE)
    archives = types["application/x-nvae-archive"].find("magic/match", NAMESPACE)
    assert matches is not None
    assert archives is not None
    assert unescape(matches) == MAGIC + bytes((VERSION,))
    assert unescape(archives) == MAGIC + bytes((VERSION, ARCHIVE))
    kinds = {int(node.get("value", "")) for node in matches}
    assert set(Kind) <= kinds == set(range(1, ARCHIVE)), "those that come later, too"
    assert {(node.get("offset"), node.get("mask")) for node in matches} == {("3", "0x07")}


def unescape(node: ET.Element) -> bytes:
    return node.get("value", "").encode().decode("unicode_escape").encode("latin-1")


@pytest.mark.skipif(
    shutil.which("update-mime-database") is None,
    reason="needs update-mime-database, which is not installed, to take the types",
)
def test_the_mime_database_takes_them(tmp_path: Path) -> None:
    folder = tmp_path / "mime"
    (folder / "packages").mkdir(parents=True)
    shutil.copy(SHARE / "nvae-codec.xml", folder / "packages")
    where = os.environ | {"XDG_DATA_DIRS": str(tmp_path)}
    done = subprocess.run(["update-mime-database", folder], env=where, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert b"\xd6N\x01" in (folder / "magic").read_bytes()
    assert {"image/x-nvae", "application/x-nvae-archive"} <= set((folder / "types").read_text().split())
