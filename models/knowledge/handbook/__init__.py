"""The embedded handbook: hand-written product concepts, and the matching of products to them."""
