"""Frames to files and back: GIF through Pillow, MP4 through PyAV where that is installed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solomonic.core.errors import ConfigError, DataError, ShapeError
from solomonic.core.files import write_whole
from solomonic.realization.matrices import as_array


def as_bytes(frames: ArrayLike, limits: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Frames (T, height, width[, 3]) as bytes; `limits` are black and white (None: their range)."""
    array = as_array("frames", frames)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] != 3) or not array.size:
        raise ShapeError(
            f"frames must be (time, height, width) or (time, height, width, 3), not {array.shape}."
        )
    if not np.isfinite(array).all():
        raise DataError("frames hold NaN or infinity.")
    low, high = limits if limits is not None else (float(array.min()), float(array.max()))
    span = high - low if high > low else 1.0
    return (np.clip((array - low) / span, 0, 1) * 255).round().astype(np.uint8)


def save_video(
    frames: ArrayLike,
    path: str | Path,
    *,
    rate: float = 25.0,
    limits: tuple[float, float] | None = None,
    enlarge: int = 1,
) -> Path:
    """Write frames as .gif or .mp4, by the ending of `path`.

    Args:
        frames: (T, height, width) grey or (T, height, width, 3) colour.
        path: where to; what was there is replaced when the new file is whole.
        rate: frames a second. A GIF counts in hundredths of a second.
        limits: values of black and white; None takes the range of the frames.
        enlarge: each pixel becomes that many on a side.

    Raises:
        ConfigError: another ending, or a library that is missing (the message names it).
    """
    path = Path(path)
    images = as_bytes(frames, limits)
    images = images.repeat(enlarge, 1).repeat(enlarge, 2)
    if not rate > 0:
        raise ConfigError(f"rate must be above 0 frames a second; it is {rate}.")
    if path.suffix.lower() == ".gif":
        data = _gif(images, rate)
    elif path.suffix.lower() == ".mp4":
        data = _mp4(images, rate)
    else:
        raise ConfigError(f"{path.name} must end in .gif or .mp4.")
    write_whole(path, data)
    return path


def load_video(path: str | Path) -> NDArray[np.float64]:
    """Frames of a GIF (or any image file with frames) in grey: (T, height, width), 0 to 1.

    Raises:
        DataError: the file is missing or no image.
    """
    Image = _pillow()
    try:
        with Image.open(path) as image:
            frames = []
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                frames.append(np.asarray(image.convert("L"), np.float64) / 255)
    except OSError as error:
        raise DataError(f"cannot read {path} as an image with frames ({error}).") from error
    return np.stack(frames)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError("Images need Pillow; pip install pillow.") from error
    return Image


def _gif(images: NDArray[np.uint8], rate: float) -> bytes:
    Image = _pillow()
    pages = [Image.fromarray(image) for image in images]
    if images.ndim == 4:
        pages = [page.quantize(256) for page in pages]
    file = io.BytesIO()
    milliseconds = max(round(100 / rate), 2) * 10
    pages[0].save(
        file,
        format="GIF",
        save_all=True,
        append_images=pages[1:],
        duration=milliseconds,
        loop=0,
        optimize=False,
    )
    return file.getvalue()


def _mp4(images: NDArray[np.uint8], rate: float) -> bytes:
    try:
        import av  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "MP4 needs PyAV (pip install av); a path that ends in .gif needs nothing more."
        ) from error
    if images.ndim == 3:
        images = images[..., None].repeat(3, 3)
    height, width = (size + size % 2 for size in images.shape[1:3])  # the format wants even sizes
    images = np.pad(
        images,
        ((0, 0), (0, height - images.shape[1]), (0, width - images.shape[2]), (0, 0)),
        mode="edge",
    )
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=max(round(rate), 1))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 4_000_000
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
