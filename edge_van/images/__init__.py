"""Sets of images, decoded one by one or streamed, and seeded draws from them."""
