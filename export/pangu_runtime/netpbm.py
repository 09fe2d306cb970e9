"""Binary PGM and PPM of any maximum, decoded at once.

Pillow scales values of a maximum other than 255 and 65535 one by one in Python: over a second for a million of them.
"""

from typing import Any

import numpy as np
from PIL import Image, ImageFile
from PIL.PpmImagePlugin import PpmImageFile

_CODEC = "pangu_netpbm"


class NetpbmFile(PpmImageFile):
    """Pillow's, with the decoder below in place of the slow one."""

    def _open(self) -> None:
        super()._open()
        self.tile = [tile._replace(codec_name=_CODEC) if tile.codec_name == "ppm" else tile for tile in self.tile]


class _Decoder(ImageFile.PyDecoder):
    """Gives the numbers of Pillow's own, from a table of all values; too few of them raise ValueError."""

    _pulls_fd = True

    def decode(self, _: Any) -> tuple[int, int]:
        assert self.fd is not None
        maximum, is_wide = int(self.args[-1]), self.mode == "I"
        found, told, full = ("u1" if maximum < 256 else ">u2"), ("<i4" if is_wide else "u1"), 65535 if is_wide else 255
        values = np.arange(256 ** np.dtype(found).itemsize)
        table = np.minimum(np.rint(values / maximum * full), full).astype(told)
        count = self.state.xsize * self.state.ysize * Image.getmodebands(self.mode)
        data = self.fd.read(count * np.dtype(found).itemsize)
        self.set_as_raw(table[np.frombuffer(data, found)].tobytes(), "I;32" if is_wide else self.mode)
        return -1, 0


Image.register_decoder(_CODEC, _Decoder)
