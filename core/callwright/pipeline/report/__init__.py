"""What data preparation leaves to be read: `data-report.html`, and `README.md`, the data card.

`counts.py` reads a step's counts, `gather.py` goes over rows and changes, once each; `examples.py` makes a changed row
readable; `flow.py` draws the diagram, `page.py` writes the page and `card.py` the card. `data_view.py`, beside this
folder, is for the terminal. None of them imports torch.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from callwright.data import PARTS
from callwright.files import replacing
from callwright.pipeline.prepared import Prepared
from callwright.pipeline.report.card import card
from callwright.pipeline.report.gather import gather
from callwright.pipeline.report.page import page
from callwright.recipe import Recipe

PAGE, CARD = "data-report.html", "README.md"


def write_reports(prepared: Prepared, recipe: Recipe, folder: Path) -> None:
    """Write both into `folder`, which is there, beside the files of rows, which the card names. Each appears whole or
    not at all."""
    files = {part: folder / f"{part}.parquet" for part in PARTS}
    parts = {part: pq.read_metadata(path).num_rows for part, path in files.items() if path.exists()}
    texts = {PAGE: page(prepared, recipe, gather(prepared)), CARD: card(prepared, recipe, parts)}
    for name, text in texts.items():
        with replacing(folder / name) as path:
            path.write_text(text, encoding="utf-8", newline="\n")
