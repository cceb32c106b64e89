"""Finding directions in w without labels, by its principal components and by the weights, and sheets that show them.

What a direction is, and its file, is gan.sampling.directions; directions that labels decide on are eval.directions.
"""
