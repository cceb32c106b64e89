"""Images from seeds. One seed is one image, whatever the batch size, and the same in every run on the same device."""

from collections.abc import Iterator, Sequence

import torch

from gan.data.images import Pixels, to_bytes
from gan.device.determinism import deterministic
from gan.device.memory import Download, upload
from gan.errors import RequestError
from gan.networks.generator import Generator
from gan.networks.labels import one_hot
from gan.ops.weight_cache import WeightCache
from gan.runtime.parallel import delayed
from gan.sampling.latents import draw


def latents(seeds: Sequence[int], z_dim: int) -> torch.Tensor:
    """z [N, z_dim], float32, each row from its own seed."""
    return torch.from_numpy(draw(seeds, z_dim))


def class_weights(classes: Sequence[int] | None, G: Generator) -> torch.Tensor | None:
    """One-hot c [N, classes] for class indices. Raises RequestError when they do not fit the generator."""
    number = G.config.num_classes
    if not number:
        if classes is not None:
            raise RequestError("`classes` must be left out: this generator was trained without classes")
        return None
    if classes is None:
        raise RequestError(f"`classes` must be given: this generator has {number} classes, 0 to {number - 1}")
    if bad := [c for c in classes if not 0 <= c < number]:
        raise RequestError(f"`classes` must be from 0 to {number - 1}; got {bad[0]} instead")
    return one_hot(classes, number)


def map_seeds(
    G: Generator,
    seeds: Sequence[int],
    classes: Sequence[int] | None = None,
    *,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
) -> torch.Tensor:
    """ws [N, num_ws, w_dim] of seeds.

    Computed seed by seed on a CPU, so that no other seed in the batch rounds it otherwise; on a GPU all at once, since
    there the host would take longer to ask for them one by one than the images take.
    """
    device = next(G.parameters()).device
    c = class_weights(classes, G)
    c = None if c is None else upload(c, device)
    rows = []
    with torch.inference_mode(), deterministic():
        for z, own_c in _parts(upload(latents(seeds, G.config.z_dim), device), c):
            rows.append(G.mapping(z, own_c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff))
    return torch.cat(rows)


def synthesize(
    G: Generator,
    ws: torch.Tensor,
    *,
    noise_mode: str = "const",
    seeds: Sequence[int] | None = None,
    batch_size: int = 8,
    cache: WeightCache | None = None,
) -> Iterator[Pixels]:
    """ws [N, num_ws, w_dim] -> uint8 HWC images one by one. "random" noise comes from each image's own seed.

    G must not change before the last one. `cache` keeps what is derived from its weights from call to call.
    """
    yield from _arriving(_synthesized(G, ws, noise_mode, seeds, batch_size, cache or WeightCache()), ws.device)


def generate(
    G: Generator,
    seeds: Sequence[int],
    classes: Sequence[int] | None = None,
    *,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise_mode: str = "const",
    batch_size: int = 8,
) -> Iterator[Pixels]:
    """One uint8 HWC image a seed, in order, made `batch_size` at a time. G must not change before the last one."""
    cache = WeightCache()

    def batches() -> Iterator[Download]:
        for start in range(0, len(seeds), batch_size):
            batch = seeds[start : start + batch_size]
            batch_classes = None if classes is None else classes[start : start + batch_size]
            ws = map_seeds(G, batch, batch_classes, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
            yield from _synthesized(G, ws, noise_mode, batch, batch_size, cache)

    yield from _arriving(batches(), next(G.parameters()).device)


def _parts(z: torch.Tensor, c: torch.Tensor | None) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    # What is mapped at a time.
    size = max(len(z), 1) if z.is_cuda else 1
    for start in range(0, len(z), size):
        yield z[start : start + size], None if c is None else c[start : start + size]


def _synthesized(
    G: Generator, ws: torch.Tensor, noise_mode: str, seeds: Sequence[int] | None, batch_size: int, cache: WeightCache
) -> Iterator[Download]:
    # Batches of pixels [n, H, W, 3], each on its way when it is given.
    if not ws.is_cuda:
        batch_size = 1  # a convolution rounds differently in another batch, and batches hardly speed a CPU up
    for start in range(0, len(ws), batch_size):
        batch = ws[start : start + batch_size]
        noises = None
        if noise_mode == "random":
            assert seeds is not None
            noises = _noises(G, seeds[start : start + batch_size], batch.device)
        with torch.inference_mode(), cache, deterministic():  # not around a yield: it would leak to whoever iterates
            download = Download(to_bytes(G.synthesis(batch, noise_mode, noises)))
        yield download


def _arriving(batches: Iterator[Download], device: torch.device) -> Iterator[Pixels]:
    # A GPU is given the next batch before the last one is waited for.
    for batch in delayed(batches, 1 if device.type == "cuda" else 0):
        yield from batch.result().numpy()


def _noises(G: Generator, seeds: Sequence[int], device: torch.device) -> list[torch.Tensor]:
    # From the seed's own generator, drawn on the CPU: the same on every device and in every batch.
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return [
        upload(torch.stack([torch.randn([1, side, side], generator=g) for g in generators]), device)
        for side in G.synthesis.noise_shapes()
    ]
