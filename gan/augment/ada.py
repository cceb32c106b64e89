"""Adaptive discriminator augmentation: its probability p, and how p adapts (Karras et al. 2020, ADA)."""

from typing import Any

import torch

from gan.augment.diffaugment import diff_augment
from gan.augment.pipeline import AugmentPipe
from gan.config import TrainingConfig
from gan.runtime import distributed
from gan.runtime.console import say

CPU = torch.device("cpu")


class AdaController:
    """Holds r_t, the mean sign of D's logits of real images, at a target by moving p (Karras et al. 2020, section 3.1).

    r_t near 1 means that D overfits: p rises; else it falls. `kimg` is how many thousands of
    images take p from 0 to 1; `interval` is in iterations. All numbers that change lie on `device`, and are changed in
    place.
    """

    def __init__(self, *, p: float, target: float, interval: int, kimg: float, device: torch.device = CPU) -> None:
        self.target, self.interval, self.kimg = target, interval, kimg
        self.probability = torch.full([], p, dtype=torch.float64, device=device)  # p where it is used: nothing waits
        # Since the last adjustment, the sum and the number of signs; and the same of this iteration, in this process.
        self._signs, self._fresh = (torch.zeros([2], dtype=torch.float64, device=device) for _ in range(2))

    @property
    def p(self) -> float:
        """The probability as a number; waits for a GPU."""
        return self.probability.item()

    def observe(self, real_logits: torch.Tensor) -> None:
        """Add the signs of D's logits of real images."""
        self._fresh[0].add_(real_logits.detach().sign().sum(dtype=torch.float64))
        self._fresh[1].add_(real_logits.numel())

    def update(self, iteration: int) -> None:
        """After each iteration, counted from 1: take in what all processes saw; adjust p when an interval ends."""
        distributed.sum_in_place([self._fresh])
        self._signs += self._fresh
        self._fresh.zero_()
        if iteration % self.interval:
            return
        total, number = self._signs.unbind()
        step = number / (self.kimg * 1000) * (total / number - self.target).sign()
        self.probability.add_(step).clamp_(0, 1)  # where nothing was observed: torch's sign of 0 / 0 is 0
        self._signs.zero_()

    def state_dict(self) -> dict[str, Any]:
        """All that changes."""
        return {"p": self.p, "signs": self._signs.cpu().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.probability.fill_(state["p"])
        self._signs.copy_(state["signs"])


class Augmentation:
    """The augmentation of a config, applied to every image that D sees; "none" changes nothing and draws nothing.

    Images lie on `device`. Where it is not `synchronous`, nothing waits for the device (see AugmentPipe.on_device).
    """

    def __init__(self, config: TrainingConfig, device: torch.device = CPU, *, synchronous: bool = True) -> None:
        self.kind, self.synchronous = config.augment, synchronous
        self.pipe = AugmentPipe(config.augment_categories)
        self.controller = AdaController(
            p=config.augment_p,
            target=config.ada_target,
            interval=config.ada_interval,
            kimg=config.ada_kimg,
            device=device,
        )

    @property
    def p(self) -> float:
        """Probability of each augmentation; 0 where there is no such thing. Waits for a GPU."""
        return self.controller.p if self.kind in ("ada", "fixed") else 0.0

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """float32 [N, 3, S, S] in [-1, 1] -> the same shape, differentiable to any order."""
        if self.kind == "none":
            return img
        if self.kind == "diffaugment":
            return diff_augment(img)
        return self.pipe(img, self.p) if self.synchronous else self.pipe.on_device(img, self.controller.probability)

    def observe(self, real_logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """Add D's logits of real images -> named scalars: r_t, and p where there is one."""
        if self.kind == "none":
            return {}
        stats = {"augment/rt": real_logits.sign().mean()}
        if self.kind == "ada":
            self.controller.observe(real_logits)
        if self.kind != "diffaugment":
            stats["augment/p"] = self.controller.probability.to(real_logits.dtype, copy=True)
        return stats

    def update(self, iteration: int) -> None:
        """After each iteration, counted from 1: let p adapt."""
        if self.kind == "ada":
            self.controller.update(iteration)

    def state_dict(self) -> dict[str, Any]:
        """What adapts; empty where nothing does."""
        return self.controller.state_dict() if self.kind == "ada" else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict; the state of a run that did not adapt changes nothing."""
        if self.kind == "ada" and state:
            self.controller.load_state_dict(state)


class LeakWarning:
    """Says once when p has stayed so high, for so many ticks, that augmentations may show in generated images."""

    THRESHOLD, TICKS = 0.8, 20

    def __init__(self) -> None:
        self._ticks, self._said = 0, False

    def tick(self, p: float) -> None:
        """After each tick, with p; 0 where nothing is augmented."""
        self._ticks = self._ticks + 1 if p > self.THRESHOLD else 0
        if self._ticks >= self.TICKS and not self._said:
            self._said = True
            say(
                f"p of the augmentations has been above {self.THRESHOLD} for {self.TICKS} ticks: they may leak into "
                "what is generated, as turned images or false colours. Look at the image grids; more images, fewer "
                "`augment_categories` or a higher `ada_target` help."
            )
