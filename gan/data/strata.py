"""The columns that part the images of a collection into strata. Light, so that command lines may list them."""

STRATA = ("label", "style", "genre", "artist")
