"""Post-training quantisation: which tensors, on which grid, with which ranges.

In: a folded VAN and calibration images. Out: a graph with explicit quantise and dequantise nodes.
"""

import logging

# Said at import, of kernels for GPUs and of torch's own internals: nothing a user of this package could act on.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
