"""Infrastructure providers and the meshes that run on them."""
