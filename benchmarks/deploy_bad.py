"""Requests that a server must refuse: corrupt, too large, cut off; each made anew from a seed."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from benchmarks.deploy_client import BINARY_HEADER, Request, post, post_in_chunks, predict

CORRUPT = ("noise", "torn file", "changed bytes", "tensor of another size")
OVERSIZED = ("long body", "long body in chunks", "long body announced", "bomb")
CUT = ("cut file", "cut tensor", "cut at once")
BAD_KINDS = (*CORRUPT, *OVERSIZED, *CUT)  # in equal numbers
_LONG = 2 * 2**20
_HUGE_PX = 20_000


def bad_request(kind: str, good: Request, name: str, seed: int) -> Request:
    """A request of a kind, some of them made of a good one."""
    random = np.random.default_rng(seed)
    path = f"/models/{name}/predict"
    match kind:
        case "noise":
            return Request(predict(name, random.bytes(int(random.integers(1, 20_000)))))
        case "torn file":
            whole = _picture(random, "JPEG")
            return Request(predict(name, whole[: int(random.integers(1, len(whole) * 9 // 10))]))
        case "changed bytes":
            return Request(predict(name, _changed(_picture(random, "PNG"), random)))
        case "tensor of another size":
            return Request(_other_tensor(name, random))
        case "long body":
            return Request(predict(name, random.bytes(_LONG)))
        case "long body in chunks":
            return Request(post_in_chunks(path, random.bytes(_LONG)))
        case "long body announced":
            return Request(post(path, b"", length=int(random.integers(_LONG, 2**40))))
        case "bomb":
            return Request(predict(name, _bomb()))
        case "cut file":
            raw = predict(name, _picture(random, "PNG"))
        case "cut tensor":
            raw = _other_tensor(name, random)
        case "cut at once":
            raw = predict(name, _picture(random, "JPEG"))
            return Request(raw, cut_at=raw.index(b"\r\n\r\n") + 4)
        case _:
            raise ValueError(kind)
    body = raw.index(b"\r\n\r\n") + 4
    return Request(raw, cut_at=int(random.integers(body + 1, len(raw))))


def _picture(random: np.random.Generator, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(stream, form)
    return stream.getvalue()


def _changed(png: bytes, random: np.random.Generator) -> bytes:
    """Bytes of the pixels changed; the check sum of their chunk tells."""
    start = png.index(b"IDAT") + 4
    changed = bytearray(png)
    for at in random.integers(start, len(png) - 16, 5):
        changed[int(at)] ^= 0x55
    return bytes(changed)


def _other_tensor(name: str, random: np.random.Generator) -> bytes:
    """Fewer or more bytes than its shape needs."""
    stated = 64 * 64 * 3 + int(random.choice([-1, 1])) * int(random.integers(1, 1000))
    head = b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 64, 64, 3], "parameters": '
    head += b'{"binary_data_size": %d}}]}' % stated
    return post(f"/v2/models/{name}/infer", head + random.bytes(stated), {BINARY_HEADER: len(head)})


def _bomb() -> bytes:
    """A small file that says it is a huge picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", _HUGE_PX, _HUGE_PX, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
