"""How a generator is to be sampled: what the commands that generate images have in common."""

from dataclasses import dataclass
from pathlib import Path

from gan.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class SamplingRequest:
    """Which generator makes images, and how."""

    snapshot: Path  # a snapshot's file, a run, or a folder of runs
    truncation_psi: float = 1.0  # below 1: more typical and less varied (Karras et al. 2019, appendix B)
    truncation_cutoff: int | None = None  # ws that are truncated, from the first on; None: all
    noise_mode: str = "const"  # const: the stored noise; random: of each seed's own generator; none: without
    class_name: str | None = None  # name or index of the class; None: an unconditional generator
    batch_size: int = 8  # images at a time
    precision: str = "fp32"  # fp32, bf16 or fp16
    cuda_graphs: bool = False  # make each batch as a CUDA graph, where that is possible
    device: str = "auto"  # auto, cpu, cuda or cuda:N


@dataclass(frozen=True, kw_only=True)
class MarkingRequest:
    """What the files of generated pictures say of themselves."""

    metadata: bool = True  # that they are generated, and how
    sign_certificate: Path | None = None  # PEM, with its chain: signs them as Content Credentials; None: no signature
    sign_key: Path | None = None  # its private key, PEM

    def __post_init__(self) -> None:
        if (self.sign_certificate is None) != (self.sign_key is None):
            missing = "sign_key" if self.sign_key is None else "sign_certificate"
            raise RequestError(f"`{missing}` must be given too: a signature takes a certificate and its key")
        if self.sign_certificate is not None and not self.metadata:
            raise RequestError("`sign_certificate` signs the mark and the recipe; leave `metadata` as it is")
