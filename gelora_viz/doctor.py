"""What this installation can do: versions, devices, which extras are complete, and the folders it writes to.

What is needed, and by which extra, is read from the metadata of the installed package; there is no second list. Only
torch is imported, because nothing else knows the devices.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from gelora_viz._cache import cache_folder, fetched_model, is_fetched
from gelora_viz._version import __version__
from gelora_viz.errors import GeloraVizError
from gelora_viz.runs import find_queue

_PROJECT = "gelora_viz"


@dataclass(frozen=True)
class Package:
    """One requirement and the version that is installed.

    Attributes:
        name: name of the distribution.
        needed: the versions that will do, such as ">=2.4"; empty where any will.
        installed: the version that is installed; None if there is none.
    """

    name: str
    needed: str
    installed: str | None

    @property
    def fits(self) -> bool:
        """Whether a suitable version is installed."""
        return self.installed is not None and SpecifierSet(self.needed).contains(self.installed, prereleases=True)

    @property
    def complaint(self) -> str:
        """What is wrong, in a few words; empty if nothing is."""
        if self.installed is None:
            return f"missing {self.name}"
        return "" if self.fits else f"{self.name} is {self.installed}, needed {self.needed}"


@dataclass(frozen=True)
class Extra:
    """One extra of gelora_viz: `pip install 'gelora_viz[name]'`.

    Attributes:
        name: the extra's name, without square brackets.
        packages: the packages it requires.
    """

    name: str
    packages: tuple[Package, ...]

    @property
    def complete(self) -> bool:
        """Whether all of its packages are installed in a suitable version."""
        return all(package.fits for package in self.packages)

    @property
    def remedy(self) -> str:
        """The command that installs what is missing; empty if nothing is."""
        return "" if self.complete else f"pip install '{_PROJECT}[{self.name}]'"


@dataclass(frozen=True)
class Gpu:
    """One CUDA device.

    Attributes:
        name: name of the device, as torch reports it.
        memory: total memory in bytes.
        bfloat16: whether it supports bfloat16 in hardware; runs then use it by default.
    """

    name: str
    memory: int
    bfloat16: bool


@dataclass(frozen=True)
class Devices:
    """The devices that torch finds.

    Attributes:
        threads: CPU threads that torch computes with.
        gpus: CUDA devices.
        problem: why torch cannot be used; empty where it can.
    """

    threads: int
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Folder:
    """A folder that the toolkit writes to.

    Attributes:
        path: path of the folder, there or to be made; empty where no place can be found.
        exists: whether it already exists.
        free: bytes free on its file system; None where that is unknown.
        problem: why nothing can be written there; empty where it can.
    """

    path: str
    exists: bool = False
    free: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        version: version of gelora_viz.
        python: version of the interpreter.
        python_needed: versions that gelora_viz is made for.
        system: operating system and processor.
        packages: packages that every analysis needs.
        extras: extras that further features need.
        devices: devices that torch sees.
        cache: folder of fetched models and of captures that are kept.
        queue: folder in which runs wait for each other.
        models: name of a model that `gelora-viz fetch` brings -> its folder, or None while it is not there.
    """

    version: str
    python: str
    python_needed: str
    system: str
    packages: tuple[Package, ...]
    extras: tuple[Extra, ...]
    devices: Devices
    cache: Folder
    queue: Folder
    models: dict[str, str | None]

    @property
    def problems(self) -> list[str]:
        """What prevents an analysis or a run, one line each.

        Extras are not part of it, nor is the cache, which only fetched models and kept captures need.
        """
        found = [package.complaint for package in self.packages if not package.fits]
        if not SpecifierSet(self.python_needed).contains(self.python, prereleases=True):
            found.append(f"Python is {self.python}, needed {self.python_needed}")
        found += [self.devices.problem, self.queue.problem]
        return [problem for problem in found if problem]

    @property
    def ok(self) -> bool:
        """Whether the core works."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """All attributes and the properties computed from them, as JSON-able content."""
        content = asdict(self)
        for shown, extra in zip(content["extras"], self.extras, strict=True):
            shown |= {"complete": extra.complete, "remedy": extra.remedy}
        return {"ok": self.ok, "problems": self.problems, **content}


def diagnose() -> Diagnosis:
    """Examine this Python, its packages, its devices and the toolkit's folders; nothing is changed.

    Returns:
        A `Diagnosis`; `.ok` says whether the core works, `.problems` what is in its way.

    Example:
        >>> diagnose().ok
        True
    """
    metadata = importlib.metadata.metadata(_PROJECT)
    return Diagnosis(
        version=__version__,
        python=platform.python_version(),
        python_needed=metadata["Requires-Python"] or "",
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        packages=tuple(map(_look_up, _requirements(_PROJECT))),
        extras=tuple(Extra(name, tuple(_packages_of(_PROJECT, name))) for name in _features()),
        devices=_find_devices(),
        cache=_look_at(lambda: cache_folder("models").parent, "GELORA_VIZ_CACHE"),
        queue=_look_at(find_queue, "GELORA_VIZ_QUEUE"),
        models={"smollm2": _fetched("smollm2")},
    )


def _requirements(project: str, extra: str = "") -> list[Requirement]:
    """The requirements of a project on this machine: those without an extra, or those that an extra adds."""
    listed = map(Requirement, importlib.metadata.requires(project) or ())
    return [
        each
        for each in listed
        if (each.marker is None or each.marker.evaluate({"extra": extra}))
        and not (extra and (each.marker is None or each.marker.evaluate({"extra": ""})))
    ]


def _features() -> list[str]:
    """The extras for users: those that are part of "all", whose packages a build may list one by one."""
    named = importlib.metadata.metadata(_PROJECT).get_all("Provides-Extra") or []
    everything = set(_packages_of(_PROJECT, "all"))
    return [name for name in named if name != "all" and everything.issuperset(_packages_of(_PROJECT, name))]


def _packages_of(project: str, extra: str) -> Iterator[Package]:
    """The packages that an extra adds, and those that their own extras add, as in "ray[default]"."""
    for requirement in _requirements(project, extra):
        if canonicalize_name(requirement.name) == canonicalize_name(_PROJECT):
            for name in sorted(requirement.extras):
                yield from _packages_of(_PROJECT, name)
            continue
        package = _look_up(requirement)
        yield package
        if package.installed is not None:
            for name in sorted(requirement.extras):
                yield from _only_wanting(_packages_of(requirement.name, name))


def _only_wanting(packages: Iterable[Package]) -> Iterator[Package]:
    """The unmet requirements of another project; listing the others would only make the list long."""
    return (package for package in packages if not package.fits)


def _look_up(requirement: Requirement) -> Package:
    try:
        installed = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        installed = None
    return Package(requirement.name, str(requirement.specifier), installed)


def _find_devices() -> Devices:
    try:
        import torch

        gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
        return Devices(torch.get_num_threads(), tuple(map(_describe_gpu, gpus)))
    except (ImportError, OSError, RuntimeError) as error:  # OSError: a shared library that does not fit
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return Devices(os.cpu_count() or 1, problem=f"torch cannot be used: {reason}")


def _describe_gpu(index: int) -> Gpu:
    import torch

    with torch.cuda.device(index):
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    properties = torch.cuda.get_device_properties(index)
    return Gpu(properties.name, properties.total_memory, bool(bfloat16))


def _look_at(find: Callable[[], Path], variable: str) -> Folder:
    """Describe the folder that `find` returns; the environment variable named `variable` chooses another one."""
    try:
        path = find()
    except GeloraVizError as error:
        return Folder("", problem=str(error))
    there = next((place for place in (path, *path.parents) if place.exists()), path)
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    advice = f"set {variable} to a folder you can write to"
    return Folder(
        str(path),
        exists=path.is_dir(),
        free=shutil.disk_usage(there).free if there.exists() else None,
        problem="" if writable else f"{path} cannot be written; {advice}",
    )


def _fetched(name: str) -> str | None:
    try:
        folder = fetched_model(name)
    except GeloraVizError:
        return None
    return str(folder) if is_fetched(folder) else None
