"""Blending: two generators of one lineage to a third, by layers or by weights (Pinkney and Adler 2020).

Public: blend.blend, weights.blended, sheet.draw, lineage.
"""
