"""The worker: `python -m gelora_viz.finetuning.worker RUN_DIR` trains what RUN_DIR/spec.json says.

Exit status: 0 finished or cancelled, 2 unusable input, 3 out of memory, 1 anything else; the cause is in status.json.
"""

from __future__ import annotations

import signal
import sys
import traceback
from types import FrameType

import torch

from gelora_viz.errors import GeloraVizError
from gelora_viz.finetuning.folder import RunFolder
from gelora_viz.finetuning.spec import RunSpec
from gelora_viz.finetuning.training import train


def main(run_dir: str) -> int:
    """Train one run; returns the process's exit status."""
    folder = RunFolder(run_dir)
    folder.write_status("running")

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        (folder.path / "cancel").touch()

    signal.signal(signal.SIGTERM, ask_to_stop)
    if (folder.path / "cancel").exists():  # asked for while this process was starting
        folder.write_status("cancelled")
        return 0
    try:
        finished = train(RunSpec.load(folder.path / "spec.json"), folder)
    except GeloraVizError as error:
        return _failed(folder, str(error), 2)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return _failed(folder, f"out of memory ({str(error).splitlines()[0]}); lower batch_size or max_length", 3)
    except Exception as error:  # noqa: BLE001 - whatever it was, the study must be able to say it
        return _failed(folder, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}", 1)
    folder.write_status("finished" if finished else "cancelled")
    return 0


def _failed(folder: RunFolder, message: str, code: int) -> int:
    traceback.print_exc()
    folder.write_status("failed", message)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
