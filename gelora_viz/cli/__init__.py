"""The command line: the same steps as the Python functions, over a study folder.

The commands load torch, transformers and PEFT when they need them, after they have checked what can be checked
without: a wrong option, an unknown name or a missing study is answered at once.
"""

from gelora_viz.cli.program import app, main

__all__ = ["app", "main"]
