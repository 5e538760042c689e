"""`python -m gelora_viz.cli` is `gelora-viz`."""

from gelora_viz.cli.program import main

if __name__ == "__main__":
    main()
