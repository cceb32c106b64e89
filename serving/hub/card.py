"""Cards of what is published: README.md as a hub reads it, and the same for machines."""

from typing import Any

from serving.hub import dataset_card, model_card
from serving.hub.push import is_dataset
from serving.hub.request import CardRequest


def write(request: CardRequest) -> dict[str, Any]:
    """Write the card of the generator or the dataset that `source` names -> figures: out, kind, files, sha256.

    Raises RequestError as serving.hub.model_card.write and serving.hub.dataset_card.write do.
    """
    return dataset_card.write(request) if is_dataset(request.source) else model_card.write(request)
