"""Images from seeds. One seed is one image, whatever the batch size, and the same in every run on the same device."""

from collections.abc import Iterator, Sequence

import torch

from gan.data.images import Pixels, to_bytes
from gan.device.determinism import deterministic
from gan.device.graphs import Capture, CudaCapture, Graphs, refusal
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
    return Sampler(
        G,
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        noise_mode=noise_mode,
        batch_size=batch_size,
    )(seeds, classes)


class Sampler:
    """What generate() does, again and again: what is derived from G's weights is kept, so that G must not change."""

    def __init__(
        self,
        G: Generator,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
        batch_size: int = 8,
    ) -> None:
        self.G, self.noise_mode, self.batch_size = G, noise_mode, batch_size
        self.truncation_psi, self.truncation_cutoff = truncation_psi, truncation_cutoff
        self._device = next(G.parameters()).device
        self._cache = WeightCache()
        self._graphs: Graphs | None = None
        self._inputs: list[torch.Tensor] = []  # of the graph, each [batch_size, ...]

    def __call__(self, seeds: Sequence[int], classes: Sequence[int] | None = None) -> Iterator[Pixels]:
        """One uint8 HWC image a seed, in order."""
        yield from _arriving(self._batches(seeds, classes), self._device)

    def use_graphs(self, capture: Capture | None = None) -> str | None:
        """Make each batch as a CUDA graph from now on, by `capture` where given -> why not, if it cannot be.

        All batches are of one size then: a smaller one is filled up.
        """
        reason = None if capture else refusal(self._device)
        if reason is None:
            self._graphs = Graphs(capture or CudaCapture(self._device))
        return reason

    def _batches(self, seeds: Sequence[int], classes: Sequence[int] | None) -> Iterator[Download]:
        psi, cutoff = self.truncation_psi, self.truncation_cutoff
        for start in range(0, len(seeds), self.batch_size):
            batch = seeds[start : start + self.batch_size]
            batch_classes = None if classes is None else classes[start : start + self.batch_size]
            if self._graphs:
                yield self._replayed(self._graphs, batch, batch_classes)
            else:
                ws = map_seeds(self.G, batch, batch_classes, truncation_psi=psi, truncation_cutoff=cutoff)
                yield from _synthesized(self.G, ws, self.noise_mode, batch, self.batch_size, self._cache)

    def _replayed(self, graphs: Graphs, seeds: Sequence[int], classes: Sequence[int] | None) -> Download:
        c = class_weights(classes, self.G)
        inputs = [latents(seeds, self.G.config.z_dim)] + ([] if c is None else [c])
        if self.noise_mode == "random":
            inputs += _noises(self.G, seeds)
        with torch.inference_mode(), self._cache, deterministic():
            if not self._inputs:
                self._inputs = [x.new_zeros([self.batch_size, *x.shape[1:]], device=self._device) for x in inputs]
            for kept, value in zip(self._inputs, inputs, strict=True):
                kept[: len(seeds)].copy_(upload(value, self._device))
            pixels = graphs.run("batch", self._batch)["pixels"]
            return Download(pixels[: len(seeds)].clone())  # which the next replay overwrites

    def _batch(self) -> dict[str, torch.Tensor]:
        z, *rest = self._inputs
        c = rest.pop(0) if self.G.config.num_classes else None
        psi, cutoff = self.truncation_psi, self.truncation_cutoff
        ws = self.G.mapping(z, c, truncation_psi=psi, truncation_cutoff=cutoff)
        return {"pixels": to_bytes(self.G.synthesis(ws, self.noise_mode, rest or None))}


def _parts(z: torch.Tensor, c: torch.Tensor | None) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    # What is mapped at a time.
    size = max(len(z), 1) if z.is_cuda else 1
    for start in range(0, len(z), size):
        yield z[start : start + size], None if c is None else c[start : start + size]


def _synthesized(
    G: Generator, ws: torch.Tensor, noise_mode: str, seeds: Sequence[int] | None, batch_size: int, cache: WeightCache
) -> Iterator[Download]:
    # Batches of pixels [n, H, W, C], each on its way when it is given.
    if not ws.is_cuda:
        batch_size = 1  # a convolution rounds differently in another batch, and batches hardly speed a CPU up
    for start in range(0, len(ws), batch_size):
        batch = ws[start : start + batch_size]
        noises = None
        if noise_mode == "random":
            assert seeds is not None
            noises = [upload(noise, batch.device) for noise in _noises(G, seeds[start : start + batch_size])]
        with torch.inference_mode(), cache, deterministic():  # not around a yield: it would leak to whoever iterates
            download = Download(to_bytes(G.synthesis(batch, noise_mode, noises)))
        yield download


def _arriving(batches: Iterator[Download], device: torch.device) -> Iterator[Pixels]:
    # A GPU is given the next batch before the last one is waited for.
    for batch in delayed(batches, 1 if device.type == "cuda" else 0):
        yield from batch.result().numpy()


def _noises(G: Generator, seeds: Sequence[int]) -> list[torch.Tensor]:
    # From the seed's own generator, drawn on the CPU: the same on every device and in every batch.
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return [
        torch.stack([torch.randn([1, *shape], generator=g) for g in generators]) for shape in G.synthesis.noise_shapes()
    ]
