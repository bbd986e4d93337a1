"""How far to even channel ranges out: the logit SQNR of every strength, on training images that set no range.

In: training images. Out: a table and a JSON. The recipe's ``equalize_strength`` is the best of the scheme that ships;
the test images have no part in the choice.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from common import arguments, calibration, demo, write_result

from edge_van.head import Head
from edge_van.model.fold import fold
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import post_training_quantize
from edge_van.quantization.scheme import get_scheme
from edge_van.statistics import sqnr_db

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCHEMES = ("openvino", "openvino_fast", "int8")
BATCH = 25


@torch.no_grad()
def main() -> None:
    """Quantise at every strength, compare with float, print, write."""
    parser = arguments(__doc__ or "", test=False)
    parser.add_argument("--held-out", type=int, default=1000, help="training images to compare on")
    args = parser.parse_args()
    loaded, spec = demo(args.size)
    # a shorter draw is the start of a longer one: the first images are those that quantize itself calibrates on
    drawn = calibration(args.train, spec, args.samples + args.held_out, batch=BATCH)
    images = CalibrationImages(drawn.pixels[: args.samples], spec, BATCH)
    held_out = CalibrationImages(drawn.pixels[args.samples :], spec, BATCH)
    folded, _ = fold(loaded.van, spec.size)
    reference = np.concatenate([folded(batch).numpy() for batch in held_out])
    rows: list[dict[str, Any]] = []
    for strength in STRENGTHS:
        equalized = equalize(folded, images, strength=strength)
        for scheme in SCHEMES:
            graph = post_training_quantize(equalized, images, get_scheme(scheme)).graph
            logits = np.concatenate([graph(batch).numpy() for batch in held_out])
            sqnr, agreement = sqnr_db(reference, logits), Head().agreement_percent(reference, logits)
            rows.append({"strength": strength, "scheme": scheme, "logit_sqnr_db": sqnr, "agreement_percent": agreement})
            print(f"strength {strength:.2f}  {scheme:12s} SQNR {sqnr:.2f} dB  agreement {agreement:.1f} %", flush=True)
    write_result(args, {"held_out_images": len(reference), "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
