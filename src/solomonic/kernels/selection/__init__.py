"""Op `selection`: which past tokens the eidetic memory keeps."""

from solomonic.kernels.selection import triton as triton
from solomonic.kernels.selection.blocks import select as blocks
from solomonic.kernels.selection.blocks import top as top
from solomonic.kernels.selection.reference import select as reference

__all__ = ["blocks", "reference", "top", "triton"]
