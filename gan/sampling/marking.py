"""What generated pictures' files are marked with: the recipe, and where asked for, a signature."""

from pathlib import Path

from gan.data.recipe import Recipe
from gan.sampling.request import MarkingRequest


class Marking:
    """Marks files as a request says. Raises RequestError at once where the certificate or key cannot sign."""

    def __init__(self, request: MarkingRequest) -> None:
        self._metadata, self._signer = request.metadata, None
        if request.sign_certificate is not None and request.sign_key is not None:
            from gan.data.content_credentials import Signer

            self._signer = Signer(request.sign_certificate, request.sign_key)

    def of(self, recipe: Recipe) -> Recipe | None:
        """The recipe for a file, where files shall have one."""
        return recipe if self._metadata else None

    def sign(self, path: Path, recipe: Recipe) -> None:
        """Sign a file that was written, where that was asked for."""
        if self._signer is not None:
            self._signer.sign(path, recipe)
