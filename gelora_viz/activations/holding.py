"""One thread at a time: whoever runs a model for its hidden states has it alone, and others wait.

Hooks, training modes and gradients' flags belong to the model, so that two threads which set them would read each
other's hidden states. A fast tokenizer keeps its truncation in itself, too, and fails when two threads set it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from gelora_viz.errors import InputError

_LOCKS: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
_READING = threading.local()
"""Models whose hidden states this thread reads now, by the identity of what they are held by."""
_REGISTRY = threading.Lock()


@contextmanager
def hold(owner: object) -> Iterator[None]:
    """Wait until no other thread holds this model or tokenizer, and hold it; the same thread may hold it again."""
    with _REGISTRY:
        lock = _LOCKS.setdefault(_held_by(owner), threading.RLock())
    with lock:
        yield


@contextmanager
def reading(model: nn.Module) -> Iterator[None]:
    """Hold a model whose hidden states are read by hooks.

    Raises:
        InputError: if this very thread reads them already, as a pooling function would that captures, too.
    """
    with hold(model):
        mine: set[int] = _READING.__dict__.setdefault("models", set())
        key = id(_held_by(model))
        if key in mine:
            raise InputError(
                f"this thread captures with the {type(model).__name__} already, whose hooks would read both passes; "
                "capture first, and use the points in your pooling function"
            )
        mine.add(key)
        try:
            yield
        finally:
            mine.discard(key)


def _held_by(owner: object) -> object:
    """What a model is known by: its first module with weights, which it shares with the wrappers around it.

    A model with a task head, with adapters or compiled, and the transformer inside, are one and the same here.
    """
    if not isinstance(owner, nn.Module):
        return owner
    with_weights = (module for module in owner.modules() if next(module.parameters(recurse=False), None) is not None)
    return next(with_weights, owner)
