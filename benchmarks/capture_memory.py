"""Does memory grow with the corpus? Peak resident memory of captures into a store, each in a process of its own.

The model is small, so that what would grow is seen beside it. Texts are made of ICD-10-CM descriptions, joined with a
running number, and held as a list of strings: they are the caller's, and counted.
Points and memory are in MiB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile

import pandas as pd
import torch
from machine import describe_machine, peak_mib

POOLINGS = ("mean", "tokens")
MODES = ("store", "memory")


def measure(n_texts: int, pooling: str, mode: str) -> None:
    """Capture in this process; print points, bytes of the points, and the peak of resident memory in MiB."""
    from transformers import BertConfig, BertModel

    from gelora_viz.activations import capture
    from gelora_viz.sources import load_model, load_texts

    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = load_model("minilm").tokenizer
    config = BertConfig(hidden_size=256, num_hidden_layers=4, num_attention_heads=8, intermediate_size=256)
    model = BertModel(config).eval()
    descriptions = load_texts("icd10cm").texts("train")
    texts = [f"{descriptions[number % len(descriptions)]}, case {number}" for number in range(n_texts)]
    with tempfile.TemporaryDirectory() as folder:
        store = f"{folder}/store" if mode == "store" else None
        activations = capture(model, tokenizer, texts, pooling=pooling, store=store, progress=False)
        peak = peak_mib()  # before any layer is read
        n_bytes = sum(4 * points.numel() for points in map(activations.__getitem__, activations))
    print(activations.n_points, n_bytes, peak)


def main(sizes: list[int]) -> None:
    """Print one row per pooling and mode."""
    rows = []
    for mode in MODES:
        for pooling in POOLINGS:
            row: dict[str, object] = {"points in": mode, "pooling": pooling}
            peaks = []
            for n_texts in sizes:
                command = [sys.executable, __file__, str(n_texts), "--measure", pooling, mode]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                n_points, n_bytes, peak = map(float, output.split())
                peaks.append(peak)
                row |= {
                    f"{n_texts} texts: points": int(n_points),
                    f"{n_texts}: MB of points": n_bytes / 2**20,
                    f"{n_texts}: peak MB": peaks[-1],
                }
            rows.append(row | {"growth": peaks[-1] / peaks[0] - 1})
    print(describe_machine("torch", "transformers"))
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "texts", nargs="*", type=int, default=[5000, 40000], help="sizes of the corpus (default: 5000 40000)"
    )
    parser.add_argument(
        "--measure", nargs=2, metavar=("POOLING", "MODE"),
        help="only this one capture, in this process: mean or tokens, into a store or memory",
    )  # fmt: skip
    options = parser.parse_args()
    if options.measure:
        measure(options.texts[0], *options.measure)
    else:
        main(options.texts)
