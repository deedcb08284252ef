"""Run an ONNX model exported by faceforge without faceforge or torch. Requires onnxruntime, numpy and Pillow.

python onnx_use.py model.onnx --out faces.png --count 16 --seed 0     # a generator: random faces
python onnx_use.py model.onnx --photo face.png --out made.png         # an image model: one cropped face
"""

from __future__ import annotations

import argparse
import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageCms

ORIENTATION = 0x0112  # the tag of EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LUMA = (0.299, 0.587, 0.114)


def open_model(path: str | Path, threads: int = 0) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """A CPU session with ``threads`` threads (0: all), and the metadata of the file on its input and output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["faceforge"])


def run(session: onnxruntime.InferenceSession, values: np.ndarray) -> np.ndarray:
    """Float32 (N, ...) to float32 (N, ...)."""
    return np.asarray(session.run(None, {session.get_inputs()[0].name: values.astype(np.float32)})[0])


def draw(about: dict[str, Any], count: int, seed: int) -> np.ndarray:
    """Random z (count, ...) from the distribution that the generator was trained on; labels at random 1 or -1."""
    shape, generator = (count, *about["input"]["shape"]), np.random.default_rng(seed)
    z = generator.random(shape) if about["input"]["kind"] == "uniform" else generator.standard_normal(shape)
    if labels := len(about["input"].get("labels", ())):
        z[:, -labels:] = np.where(z[:, -labels:] < 0.5 * (about["input"]["kind"] == "uniform"), -1, 1)
    return z


def open_picture(path: str | Path) -> Image.Image:
    """An image file as faceforge reads it: 8 bits, in sRGB, on white, upright. Raises ValueError."""
    image = Image.open(path)
    profile, orientation = image.info.get("icc_profile"), image.getexif().get(ORIENTATION, 1)
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("32-bit pixels of unknown range")
        pixels = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    elif image.mode in ("F", "LAB"):
        raise ValueError(f"pixels of mode {image.mode}")
    else:
        pixels = image
    alpha = pixels.convert("RGBA").getchannel("A") if pixels.has_transparency_data else None
    if pixels.mode not in ("L", "RGB", "CMYK"):
        pixels = pixels.convert("L" if pixels.mode in ("1", "LA", "La") else "RGB")
    made = to_srgb(pixels, profile).convert("RGB")
    white = Image.new("RGB", made.size, "white")
    made = Image.composite(made, white, alpha) if alpha else made
    turned = TURNS.get(orientation)
    return made.transpose(turned) if turned is not None else made


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image of mode L, RGB or CMYK in sRGB; a broken or absent profile is sRGB."""
    if not profile:
        return image
    try:
        given, wanted = ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB")
        image = image.convert("RGB") if image.mode == "L" and profile[16:20] != b"GRAY" else image
        return ImageCms.profileToProfile(image, given, wanted, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError):
        return image


def to_input(picture: Image.Image, about: dict[str, Any]) -> np.ndarray:
    """An image of one face as the input (1, C, H, W) in [-1, 1], converted to the size and channels of the input.

    Other preprocessing of the task (lines, thresholds, blur) is not applied: the image is the input itself.
    """
    channels, height, width = about["input"]["shape"]
    pixels = np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    grey = (pixels @ np.array(LUMA, np.float32))[..., None]
    values = grey if channels == 1 else pixels
    return (values / 127.5 - 1).transpose(2, 0, 1)[None]


def to_picture(images: np.ndarray) -> Image.Image:
    """Images (N, C, H, W) in [-1, 1] side by side."""
    bytes_ = np.clip(np.round((images + 1) * 127.5), 0, 255).astype(np.uint8)
    rows = bytes_.transpose(0, 2, 3, 1).repeat(3 // bytes_.shape[1], axis=3)
    return Image.fromarray(np.concatenate(list(rows), axis=1))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--photo")
    parser.add_argument("--out", required=True)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true")
    asked = parser.parse_args()
    out = Path(asked.out)
    if out.exists() and not asked.overwrite:
        parser.error(f"{out}: already exists; use --overwrite to replace it")
    kind = Image.registered_extensions().get(out.suffix.lower())
    if kind is None:
        parser.error(f"{out}: must be an image file, such as faces.png")
    session, about = open_model(asked.model)
    if about["input"]["kind"] == "image":
        if not asked.photo:
            parser.error(f"{asked.model}: takes images; --photo must name one")
        try:
            values = to_input(open_picture(asked.photo), about)
        except (OSError, ValueError) as error:
            parser.error(f"{asked.photo}: cannot be read ({error})")
    else:
        values = draw(about, asked.count, asked.seed)
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:  # atomically
        to_picture(run(session, values)).save(beside, kind)
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    print(out)


if __name__ == "__main__":
    main()
