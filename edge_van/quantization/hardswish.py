"""An optional trade of accuracy for speed: every GELU becomes a scaled hard-swish, which costs a fraction of it.

In: a ``FoldedVAN``. Out: a copy that computes nearly the same function; how near, the caller measures. GELU(x) is close
to hardswish(k x) / k; k goes into the convolution before, 1/k into those that read the result, so that only the
activation itself changes. hardswish(x) = x * clip(x + 3, 0, 6) / 6 (Howard et al., 2019, section 5.2).
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from edge_van.model.fold import FoldedBlock, FoldedVAN

K = 1.85
"""Found by measuring logits of a trained VAN-B0; a factor per channel gained nothing over it."""


@torch.no_grad()
def with_hardswish(model: FoldedVAN) -> FoldedVAN:
    """A copy of ``model`` with ``hardswish(K x) / K`` in place of every GELU. The function changes."""
    result = copy.deepcopy(model)
    for module in result.modules():
        if not isinstance(module, FoldedBlock):
            continue
        attn, mlp = module.attn, module.mlp
        attn.activation, mlp.act = nn.Hardswish(), nn.Hardswish()
        for writer in (attn.proj_1, mlp.dwconv.dwconv):
            writer.weight.mul_(K)
            cast(Tensor, writer.bias).mul_(K)
        # what the activation feeds: the LKA's first kernel, the gate's product (read by proj_2), and fc2
        for reader in (attn.spatial_gating_unit.conv0, attn.proj_2, mlp.fc2):
            reader.weight.div_(K)
    return result
