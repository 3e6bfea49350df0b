"""Image files, bytes, arrays and PIL images, to one :class:`Picture` value and back.

Pillow reads and writes 8-bit files. It silently reduces 16-bit color to 8 bits, so those files are read by
tifffile and OpenCV, and written by tifffile and our own PNG writer, with their metadata restored. What a format
cannot hold is converted or left out by :func:`fit`, which notes it.

Images may be large, so nothing here makes a full copy in float: conversions run in strips of rows.
"""

from derain.arrays import FloatArray

from .fitting import fit, on_white
from .picture import Picture
from .pil import from_pil
from .reading import MAX_PIXELS, decode, openable, read
from .writing import FORMATS, back_to_pil, encode, format_for, result_format, write

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "FloatArray",
    "Picture",
    "back_to_pil",
    "decode",
    "encode",
    "fit",
    "format_for",
    "from_pil",
    "on_white",
    "openable",
    "read",
    "result_format",
    "write",
]
