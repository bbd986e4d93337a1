"""The network: VAN, its variants, its folded form, its cost."""
