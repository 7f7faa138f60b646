"""Execute the notebooks named on the command line, from the first cell to the last."""

from __future__ import annotations

import sys

import nbformat
from nbclient import NotebookClient


def main(paths: list[str]) -> None:
    """Execute each one; an error in a cell ends this with its traceback."""
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
        print(f"{path}: {len(notebook.cells)} cells run")


if __name__ == "__main__":
    main(sys.argv[1:])
