"""Rejection sampling where the truth is known: a GAN on 25 Gaussians in the plane (Azadi et al. 2019, section 4.1).

Prints, after so many steps of training, what each method accepts, the share of it that is within four standard
deviations of a mode, the modes that have such samples, and the spread around them (the data's is 0.05).

python benchmarks/mixture25.py --steps 2500 --steps 8000
"""

import copy
import itertools
import sys
import time
from collections.abc import Iterator

import click
import numpy as np
import torch
from torch import nn

from gan.rejection import algorithms, calibration
from gan.rejection.algorithms import Array
from gan.rejection.keep_training import KeepTrainingSettings, keep_training
from gan.runtime.console import table
from gan.training import losses

SIGMA, SIDE, BATCH, WIDTH = 0.05, 5, 256, 100
MODES = torch.tensor(list(itertools.product(range(-(SIDE // 2), SIDE // 2 + 1), repeat=2)), dtype=torch.float32)
LEARNING_RATE = 5e-4  # leaves the generator half-trained at 2,500 steps
BURN_IN, CANDIDATES, BUDGET = 10_000, 20_000, 4


def network(inputs: int, outputs: int) -> nn.Sequential:
    """Four layers of rectified linear units."""
    sizes = [inputs, WIDTH, WIDTH, WIDTH]
    layers = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, outputs))


def real_points(count: int, generator: torch.Generator) -> torch.Tensor:
    """[count, 2], float32, of the mixture."""
    mode = torch.randint(len(MODES), [count], generator=generator)
    return MODES[mode] + SIGMA * torch.randn([count, 2], generator=generator)


def gen_points(G: nn.Module, count: int, generator: torch.Generator) -> torch.Tensor:
    """[count, 2], float32, of the generator."""
    with torch.no_grad():
        points: torch.Tensor = G(torch.randn([count, 2], generator=generator))
    return points


def train(most: int, generator: torch.Generator) -> Iterator[tuple[int, nn.Module, nn.Module]]:
    """Train with the losses of StyleGAN2 -> after each step its number, G and D."""
    G, D = network(2, 2), network(2, 1)
    optimizers = [torch.optim.Adam(net.parameters(), LEARNING_RATE, (0.5, 0.9), fused=True) for net in (G, D)]
    for step in range(1, most + 1):
        z = torch.randn([BATCH, 2], generator=generator)
        real_loss, gen_loss = losses.discriminator_loss(D(real_points(BATCH, generator)), D(G(z).detach()))
        descend(optimizers[1], real_loss.mean() + gen_loss.mean())
        descend(optimizers[0], losses.generator_loss(D(G(z))).mean())
        yield step, G, D


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One step."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def judge(D: nn.Module, points: torch.Tensor) -> Array:
    """Logits, float64 [N]."""
    with torch.no_grad():
        return D(points)[:, 0].double().numpy()


def row(name: str, points: torch.Tensor, candidates: int) -> tuple[str, ...]:
    """A line of the table for what was accepted."""
    distance, mode = torch.cdist(points, MODES).min(dim=1)
    good = distance < 4 * SIGMA
    spread = (distance[good].square().mean() / 2).sqrt()
    modes = len(set(mode[good].tolist()))
    return name, f"{len(points) / candidates:.0%}", f"{good.float().mean():.1%}", f"{modes}", f"{spread:.3f}"


def methods(G: nn.Module, D: nn.Module, generator: torch.Generator) -> tuple[list[tuple[str, ...]], str]:
    """The lines of the table, and what was measured on the way."""
    burn_in, real = gen_points(G, BURN_IN, generator), real_points(BURN_IN, generator)
    points = gen_points(G, CANDIDATES, generator)
    rows, notes = [row("plain", points, CANDIDATES)], []
    uniform = np.random.default_rng(0).random(CANDIDATES)
    kept_D = copy.deepcopy(D)
    for rate in (1e-3, 1e-4):  # what a high rate cannot settle, a low one does
        kept = keep_training(
            kept_D,
            ((real_points(BATCH, generator),) for _ in itertools.count()),
            ((gen_points(G, BATCH, generator),) for _ in itertools.count()),
            [(real_points(BURN_IN, generator),)],
            [(gen_points(G, BURN_IN, generator),)],
            KeepTrainingSettings(learning_rate=rate, beta1=0.5, beta2=0.9, check_interval=250, max_steps=3000),
        )
        notes.append(
            f"KeepTraining at {rate:g}: best after {kept.best_step} steps, loss {kept.losses[0]:.3f} to "
            f"{min(kept.losses):.3f}"
        )
    for name, judging in (("raw D", D), ("KeepTraining", kept_D)):
        fitted = calibration.fit_and_test("platt", judge(judging, real), judge(judging, burn_in))
        notes.append(f"Z of {name}: {fitted.z_before:+.1f}, calibrated {fitted.z_after:+.1f}")
        drs = algorithms.DiscriminatorRejection(judge(judging, burn_in), gamma=0)
        yes = uniform < drs.probabilities(judge(judging, points))
        rows.append(row(f"drs, {name}, gamma 0", points[yes], CANDIDATES))
        drs = algorithms.DiscriminatorRejection(judge(judging, burn_in), budget=BUDGET)
        yes = uniform < drs.probabilities(judge(judging, points))
        rows.append(row(f"drs, {name}, budget {BUDGET}", points[yes], CANDIDATES))
        logits = fitted.calibrate(judge(judging, points))
        accepted = algorithms.draw(algorithms.budgeted_probabilities(logits, BUDGET), uniform[0])
        rows.append(row(f"obrs, {name}, budget {BUDGET}", points[accepted], CANDIDATES))
        for length in (BUDGET, 20):
            chains = [CANDIDATES // length, length]
            start = fitted.calibrate(judge(judging, real))[: chains[0]]
            column, _ = algorithms.metropolis_hastings(logits.reshape(chains), start, uniform.reshape(chains))
            places = np.arange(chains[0]) * length + column
            rows.append(row(f"mh, {name}, chains of {length}", points[places], CANDIDATES))
    return rows, "\n".join(notes)


@click.command(help=__doc__)
@click.option("--steps", multiple=True, type=click.IntRange(1), default=[2500, 8000], show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(steps: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the networks are too small for more
    start, measuring = time.process_time(), 0.0
    generator = torch.Generator().manual_seed(seed)
    for step, G, D in train(max(steps), generator):
        if step not in steps:
            continue
        # Measuring draws from a generator of its own, and trains a copy of D: training goes on as if it had not been.
        paused = time.process_time()
        rows, notes = methods(G, copy.deepcopy(D).requires_grad_(False), torch.Generator().manual_seed(seed + step))
        print(f"\n{step} steps\n{table(rows, ['', 'accepted', 'within 4 sigma', 'modes', 'spread'])}\n{notes}")
        measuring += time.process_time() - paused
    training = time.process_time() - start - measuring
    print(
        f"\nOf one core: {training:.0f} s of training, {measuring:.0f} s of KeepTraining and sampling", file=sys.stderr
    )


if __name__ == "__main__":
    main()
