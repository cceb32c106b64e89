"""From seeds to images: latents, generated images, image grids, animations."""
