"""The images of a capture: processed batch by batch, their patches as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gelora_viz._checks import describe
from gelora_viz.activations.corpus import Batch
from gelora_viz.errors import InputError


def is_image_processor(processor: object) -> bool:
    """Whether `processor` is one of transformers' image processors, asked without importing Pillow."""
    return any(base.__name__ == "BaseImageProcessor" for base in type(processor).__mro__)


def check_images(images: Any) -> None:  # noqa: ANN401
    """Raise `InputError` unless `images` is a sequence with at least one member."""
    if isinstance(images, str | bytes) or not hasattr(images, "__len__") or not hasattr(images, "__getitem__"):
        raise InputError(f"images is {describe(images)}; give a list of PIL images or arrays")
    if len(images) == 0:
        raise InputError("images is empty; give at least one image")


class ImageCorpus:
    """Images that an image processor brings to one size.

    Args:
        processor: the model's own image processor.
        images: PIL images or arrays (height, width, channels) or (channels, height, width); read one batch at a time.
        model: the vision transformer.
        pooling: how an image becomes points; "tokens" needs to know the number of patches beforehand, and "last"
            means nothing here.

    Raises:
        InputError: for an image that cannot be processed, pooling "last", or, with pooling "tokens", a
            model whose config names no patch size.
    """

    def __init__(self, processor: Any, images: Sequence[Any], model: nn.Module, pooling: object) -> None:  # noqa: ANN401
        if pooling == "last":
            raise InputError('pooling "last" means nothing for images; choose mean, cls, tokens or a function')
        self._processor, self._images, self._model = processor, images, model
        self._size = tuple(self._process(np.array([0])).shape[-2:])
        self._n_patches = _count_patches(model, self._size)
        if self._n_patches is None and pooling == "tokens":
            raise InputError(
                f"the config of {type(model).__name__} names no patch_size, so its patches cannot be counted; choose "
                "pooling mean or cls"
            )
        self.lengths = np.full(len(images), self._n_patches or 0, dtype=np.int32)
        self.n_usable = self.lengths

    def load(self, members: np.ndarray, *, tensors: bool = True) -> Batch:
        """The images at these positions, as pixel values (n_images, channels, height, width) of the model's type."""
        positions = [np.arange(self._n_patches or 0)] * len(members)
        if not tensors:
            return Batch({}, None, positions, None, self._n_patches)
        pixels = self._process(members)
        if tuple(pixels.shape[-2:]) != self._size:
            raise InputError(
                f"images {members.min()} to {members.max()} became {tuple(pixels.shape[-2:])} pixels and the first "
                f"one {self._size}; set the image processor to resize to one size"
            )
        return Batch({"pixel_values": pixels.to(_floating_type(self._model))}, None, positions, None, self._n_patches)

    def _process(self, members: np.ndarray) -> torch.Tensor:
        images = [self._images[int(image)] for image in members]
        for number, image in zip(members, images, strict=True):
            if isinstance(image, str | bytes) or image is None:
                raise InputError(f"image {number} is {image!r}; open it first: give PIL images or arrays")
        try:
            return torch.as_tensor(self._processor(images, return_tensors="pt")["pixel_values"])
        except (ValueError, TypeError, RuntimeError, KeyError) as error:
            numbers = ", ".join(map(str, members[:5])) + (", …" if len(members) > 5 else "")
            raise InputError(
                f"the image processor cannot read images {numbers}: {error}; give PIL images in RGB or arrays of one "
                "layout"
            ) from error


def _count_patches(model: nn.Module, size: tuple[int, ...]) -> int | None:
    config: Any = getattr(model, "config", None)
    patch = getattr(config, "patch_size", None) or getattr(getattr(config, "vision_config", None), "patch_size", None)
    if patch is None:
        return None
    height, width = (patch, patch) if isinstance(patch, int) else tuple(patch)[-2:]
    return int(size[0] // height) * int(size[1] // width)


def _floating_type(model: nn.Module) -> torch.dtype:
    return next((tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()), torch.float32)
