"""From seeds to images: latents, generated images, image grids, animations.

Public: generate.generate, Sampler, map_seeds and synthesize; latents (without torch); image_grid; animation.save.
"""
