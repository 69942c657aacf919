"""A process that draws its share of figures: started by reports.figures.render, which says why."""

from __future__ import annotations

import gc
import pickle
import sys
from typing import BinaryIO

from reports.figures.render import draw_into

_FIGURES_A_COLLECTION = 16  # a figure leaves some 20 000 objects that refer to each other


def main(share: BinaryIO) -> None:
    """Draw what stands in ``share``: a pickle of the folder and of pickled (figure, mark) pairs."""
    gc.disable()  # it would look through every object several times a figure, for a seventh of the time
    directory, parcels = pickle.load(share)  # noqa: S301 - written a moment ago by the process that started this one
    for at, parcel in enumerate(parcels, 1):
        figure, mark = pickle.loads(parcel)  # noqa: S301 - as above
        draw_into(directory, figure, mark)
        if at % _FIGURES_A_COLLECTION == 0:
            gc.collect()


if __name__ == "__main__":
    main(sys.stdin.buffer)
