"""How long does the notebook kernel's event loop stand still while a run trains?

An asyncio loop, as a kernel has one, sleeps for 5 ms again and again and notes by how much it is late. Meanwhile a
run trains (LoRA on MiniLM and ICD-10-CM, in its worker process), and the loop itself looks at the run four times a
second, as a panel does: status, message and metrics. The other rows are the same loop without a run, and with the run
trained by a thread of the kernel, which is what worker processes are there to avoid.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from machine import describe_machine
from peft import LoraConfig

from gelora_viz import RunSpec, launch
from gelora_viz.runs import RunFolder
from gelora_viz.training import train

NAP = 0.005
LOOKS_PER_SECOND = 4


async def watch(seconds: float, look: Callable[[], object] | None) -> tuple[list[float], list[float]]:
    """Milliseconds by which each nap was too long, and milliseconds that each look took."""
    late: list[float] = []
    looks: list[float] = []

    async def keep_looking() -> None:
        while look is not None:
            started = time.perf_counter()
            look()
            looks.append(1000 * (time.perf_counter() - started))
            await asyncio.sleep(1 / LOOKS_PER_SECOND)

    looking = asyncio.ensure_future(keep_looking())
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        await asyncio.sleep(NAP)
        late.append(1000 * (time.perf_counter() - started - NAP))
    looking.cancel()
    return late, looks


def row(what: str, late: list[float], looks: list[float]) -> dict[str, object]:
    """Of the table."""
    lags = {f"lag {name} ms": float(np.percentile(late, q)) for name, q in (("p50", 50), ("p99", 99), ("max", 100))}
    return {"meanwhile": what, "naps": len(late), **lags, "a look ms": float(np.median(looks)) if looks else np.nan}


def wait_until_it_trains(folder: RunFolder) -> None:
    """A run that loads its model says nothing about one that trains."""
    while not folder.read_rows():
        time.sleep(0.1)


def main(seconds: float) -> None:
    """Print the table."""
    load = os.getloadavg()[0]
    rows = [row("nothing", *asyncio.run(watch(seconds, None)))]
    with tempfile.TemporaryDirectory() as place:
        lora = LoraConfig(r=4, target_modules=["query", "value"])
        spec = RunSpec("lag", adapter=lora, steps=1600, batch_size=16, max_texts=2000, evaluations=1)
        run = launch(spec, run_dir=Path(place) / "process")
        wait_until_it_trains(RunFolder(run.path))
        rows.append(row("run in a worker process", *asyncio.run(watch(seconds, lambda: (repr(run), run.metrics)))))
        run.cancel()

        folder = RunFolder(Path(place) / "thread")
        spec.save(folder.path / "spec.json")
        folder.write_status("running")
        thread = threading.Thread(target=train, args=(spec, folder))
        thread.start()
        wait_until_it_trains(RunFolder(folder.path))
        rows.append(row("run in a thread", *asyncio.run(watch(seconds, None))))
        (folder.path / "cancel").touch()
        thread.join()
    print(describe_machine("torch", "transformers"))
    print(f"# load average {load:.1f} before it began, so other work than this shared the processors")
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=20, help="watch for so long (default: %(default)s)")
    main(parser.parse_args().seconds)
