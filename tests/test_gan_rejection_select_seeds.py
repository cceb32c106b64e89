"""`salon generate --reject`, end to end: a real run, a real dataset, the seeds that are accepted."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_salon, write_dataset
from PIL import Image

from gan import snapshot
from gan.data.dataset import ImageDataset
from gan.errors import RequestError, SalonError
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.rejection import algorithms, calibration, keep_training, select_seeds
from gan.rejection.discriminator_logits import DiscriminatorLogits
from gan.rejection.keep_training import KeepTrainingSettings, KeptTraining
from gan.rejection.request import SelectionRequest
from gan.rejection.select_seeds import choose
from gan.runtime.parallel import delayed
from gan.sampling.latents import MAX_SEED
from gan.training import losses


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Real images that the run was not trained on, in two classes."""
    return write_dataset(tmp_path_factory.mktemp("real") / "real.zip", [(16, 16)] * 60, [0, 1] * 30, ["day", "night"])


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    """Chunks of 16 candidates: no choice hangs on their size, and each is made as a whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select_seeds, "_CHUNK", 16)
        yield


@pytest.fixture(scope="module")
def select(tiny_run, real):
    """Run --reject with small numbers and more arguments -> the outcome."""

    def run(method, out, *arguments, count=6, data=real, source=tiny_run):
        data = () if data is None else ("--data", data)
        small = ("--reject", method, "--count", count, "--burn-in", 24, *data)
        return run_salon("generate", source, *small, "--out", out, "--json", *arguments)

    return run


@pytest.mark.parametrize("method", ["drs", "mh", "obrs"])
def test_accepted_seeds_are_generated_and_can_be_repeated(method, select, tiny_run, tmp_path):
    outcome = select(method, tmp_path / "kept", "--budget", 3)
    assert outcome.code == 0, outcome.err
    figures = outcome.json
    seeds, found = figures["seeds"], figures["rejection"]
    assert len(set(seeds)) == 6 == found["accepted"] and seeds == sorted(seeds)
    assert found["method"] == method and found["acceptance"] == 6 / found["candidates"]
    if method != "drs":
        assert found["candidates"] == 18 and max(seeds) < 18
    assert {"images", "z_before", "z_after", "slope", "method"} == set(found["calibration"])
    assert found["calibration"]["images"] == 24 and found["trained_on_data"] is False
    again = run_salon(
        "generate", tiny_run, "--seeds", ",".join(map(str, seeds)), "--out", tmp_path / "again", "--json"
    ).json
    assert again["seeds"] == seeds and "rejection" not in again
    for kept, repeated in zip(figures["files"], again["files"], strict=True):
        assert Path(kept).read_bytes() == Path(repeated).read_bytes()
    torch.manual_seed(99)  # nothing hangs on the state of a global generator
    repeated = select(method, tmp_path / "other", "--budget", 3, "--batch-size", 1).json
    assert repeated["seeds"] == seeds and repeated["rejection"] == found


def test_one_of_three_chains_each_gives_one_image(select, tmp_path):
    seeds = select("mh", tmp_path, "--budget", 3).json["seeds"]
    assert [seed // 3 for seed in seeds] == [0, 1, 2, 3, 4, 5]


def test_the_discriminators_choice_is_what_is_generated(select, tiny_run, tmp_path):
    found = snapshot.find(tiny_run)
    last = found.D.b4.out
    kept = []
    for sign in (1, -1):  # a steep discriminator, and then its opposite
        last.weight.mul_(500.0 if sign == 1 else -1.0), last.bias.mul_(500.0 if sign == 1 else -1.0)
        source = tmp_path / f"{sign}.safetensors"
        snapshot.save(source, found.G_ema, found.D, found.config, 0, None)
        arguments = ("--budget", 8, "--calibration", "none")
        outcome = select("obrs", tmp_path / f"kept{sign}", *arguments, data=None, source=source)
        assert "calibration" not in outcome.json["rejection"]
        kept.append(set(outcome.json["seeds"]))
    assert not kept[0] & kept[1]  # the best and the worst of 48


def pixels_of(seeds, classes):
    return [np.random.default_rng(seed).integers(0, 256, [16, 16, 3], np.uint8) for seed in seeds]


@pytest.fixture(scope="module")
def steep(tiny_config, real):
    """A snapshot whose discriminator tells images well apart."""
    torch.manual_seed(7)
    network = tiny_config.network
    D = Discriminator(network).eval().requires_grad_(False)
    D.b4.out.weight.mul_(30), D.b4.out.bias.fill_(0.3)
    return snapshot.Snapshot(path=real, G_ema=Generator(network), D=D, config=tiny_config, cur_nimg=0, classes=None)


@pytest.mark.parametrize("method", ["drs", "mh", "obrs"])
def test_seeds_are_accepted_by_the_formulas_on_calibrated_logits(method, steep, real, monkeypatch):
    monkeypatch.setattr(select_seeds, "_CHUNK", 4)
    candidates = list(range(1000, 1040))
    request = SelectionRequest(reject=method, count=5, budget=3, calibration_data=real, burn_in=20)
    seeds, figures = choose(steep, pixels_of, lambda seeds: None, candidates, request)
    own = range(MAX_SEED, 0, -1)  # seeds of what is no candidate: references, then the burn-in
    critic = DiscriminatorLogits(steep.D, pixels_of(own[:12], None))
    dataset = ImageDataset(real)
    order = np.random.default_rng(0).permutation(60)[:20]
    real_logits = critic([dataset.pixels(int(i)).transpose(1, 2, 0) for i in order])
    gen_logits = critic(pixels_of(own[12:32], None))
    fitted = calibration.fit_and_test("platt", real_logits, gen_logits)
    assert figures["calibration"] == {"method": "platt", **fitted.figures()}
    logits = fitted.calibrate(critic(pixels_of(candidates, None)))
    uniform = algorithms.uniforms(candidates)
    if method == "drs":
        drs = algorithms.DiscriminatorRejection(fitted.calibrate(gen_logits), budget=3)
        taken = np.flatnonzero(uniform < drs.probabilities(logits))[:5]
        examined = taken[-1] + 1
        assert 4 < examined < 36  # it took more than one chunk, and not all
        drs = algorithms.DiscriminatorRejection(fitted.calibrate(gen_logits), budget=3)
        drs.probabilities(logits[: -(-examined // 4) * 4])  # no chunk after the last one
        assert (figures["gamma"], figures["maximum"]) == pytest.approx((drs.gamma, drs.maximum))
        assert figures["maximum_raised"] == drs.raised
    elif method == "mh":
        start = np.random.default_rng(0).choice(fitted.calibrate(real_logits), 5)
        column, restarted = algorithms.metropolis_hastings(logits[:15].reshape(5, 3), start, uniform[:15].reshape(5, 3))
        taken, examined = [3 * chain + place for chain, place in enumerate(column)], 15
        assert figures["restarted"] == restarted.sum()
    else:
        taken, examined = algorithms.draw(algorithms.budgeted_probabilities(logits[:15], 3), uniform[0]), 15
    assert seeds == [candidates[place] for place in taken]
    assert figures["candidates"] == examined and figures["acceptance"] == 5 / examined


def test_chains_set_out_from_real_images_and_some_begin_again(steep, real):
    request = SelectionRequest(reject="mh", count=12, budget=2, calibration_data=real, calibration="none")
    seeds, figures = choose(steep, pixels_of, lambda seeds: None, None, request)
    critic = DiscriminatorLogits(steep.D, pixels_of(range(MAX_SEED, MAX_SEED - 12, -1), None))
    dataset = ImageDataset(real)
    order = np.random.default_rng(0).permutation(60)
    real_logits = critic([dataset.pixels(int(i)).transpose(1, 2, 0) for i in order])
    logits, uniform = (
        given.reshape(12, 2) for given in (critic(pixels_of(range(24), None)), algorithms.uniforms(range(24)))
    )
    start = np.random.default_rng(0).choice(real_logits, 12)
    column, restarted = algorithms.metropolis_hastings(logits, start, uniform)
    assert seeds == [2 * chain + place for chain, place in enumerate(column)]
    assert figures["restarted"] == restarted.sum() and 1 < restarted.sum() < 11


def test_a_gpu_works_a_chunk_ahead_and_accepts_the_same(steep, real, monkeypatch):
    monkeypatch.setattr(select_seeds, "_CHUNK", 4)
    request = SelectionRequest(reject="drs", count=5, budget=3, calibration_data=real, burn_in=20)
    made = []

    def generate(seeds, classes):
        made[-1] += [seed for seed in seeds if seed < 100]
        return pixels_of(seeds, classes)

    choices = []
    for ahead in (None, 0, 1):
        if ahead is not None:
            monkeypatch.setattr(select_seeds, "delayed", lambda items, _, ahead=ahead: delayed(items, ahead))
        made.append([])
        choices.append(choose(steep, generate, lambda seeds: None, range(80), request))
    assert choices[0] == choices[1] == choices[2]
    count = -(-choices[0][1]["candidates"] // 4) * 4  # to the end of the chunk with the last one
    assert made == [list(range(count)), list(range(count)), list(range(count + 4))]  # a CPU by itself makes no more


def test_no_burn_in_is_made_where_nothing_is_calibrated(steep):
    made = []

    def generate(seeds, classes):
        made.extend(seeds)
        return pixels_of(seeds, classes)

    request = SelectionRequest(reject="obrs", count=2, budget=3, burn_in=16, calibration="none")
    choose(steep, generate, lambda seeds: None, range(9), request)
    assert sorted(made) == [*range(6), *range(MAX_SEED - 11, MAX_SEED + 1)]  # candidates, and the references


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_line_that_turns_the_order_round_is_told(method, steep, real, capsys):
    D, slopes = copy.deepcopy(steep.D), []
    request = SelectionRequest(reject="obrs", count=2, budget=3, calibration_data=real, burn_in=16, calibration=method)
    for factor in (1, -1, 0):  # as it was, the other way round, and the same logit for all
        D.b4.out.weight.copy_(steep.D.b4.out.weight * factor)
        _, figures = choose(dataclasses.replace(steep, D=D), pixels_of, lambda seeds: None, range(6), request)
        slope = figures["calibration"].get("slope")
        assert ("accepts the wrong ones" in capsys.readouterr().err) == (slope is not None and slope <= 0)
        slopes.append(slope)
    assert slopes == [None] * 3 if method == "isotonic" else (sorted(np.sign(slopes)) == [-1, 0, 1])


def test_a_discriminator_of_one_class_is_given_it(steep, real, tmp_path):
    network = dataclasses.replace(steep.config.network, num_classes=1)
    config = dataclasses.replace(steep.config, network=network)
    source = dataclasses.replace(steep, D=Discriminator(network).eval().requires_grad_(False), config=config)
    data = write_dataset(tmp_path / "one.zip", [(16, 16)] * 16, [0] * 16)
    request = SelectionRequest(reject="obrs", count=2, budget=3, calibration_data=data, burn_in=16)
    seeds, _ = choose(source, pixels_of, lambda seeds: [0] * len(seeds), range(6), request)
    assert len(seeds) == 2


@pytest.mark.parametrize("method", ["mh", "obrs"])
def test_as_many_candidates_as_are_needed_are_enough_and_one_less_is_not(method, steep, real):
    request = SelectionRequest(reject=method, count=5, budget=3, calibration_data=real, burn_in=20)
    seeds, figures = choose(steep, pixels_of, lambda seeds: None, range(7, 22), request)
    assert len(seeds) == 5 and set(seeds) <= set(range(7, 22)) and figures["candidates"] == 15
    with pytest.raises(
        RequestError, match="`seeds` must name at least 15 candidates for `count` 5 and `budget` 3; got 14"
    ):
        choose(steep, pixels_of, lambda seeds: None, range(7, 21), request)
    first, _ = choose(steep, pixels_of, lambda seeds: None, None, request)
    assert first == choose(steep, pixels_of, lambda seeds: None, range(15), request)[0]  # from 0 on


def test_without_classes_no_labels_are_asked_for(steep, real, tmp_path):
    bare = write_dataset(tmp_path / "bare.zip", [(16, 16)] * 60)
    request = SelectionRequest(reject="obrs", count=5, budget=3, calibration_data=real, burn_in=20)
    chosen = [
        choose(steep, pixels_of, lambda seeds: None, None, dataclasses.replace(request, calibration_data=data))
        for data in (real, bare)
    ]
    assert chosen[0] == chosen[1]  # the same images


def test_drs_gives_up_after_a_thousand_candidates_an_image(steep, monkeypatch):
    monkeypatch.setattr(select_seeds, "_MOST", 40)
    request = SelectionRequest(reject="drs", count=2, gamma=60.0, burn_in=16, calibration="none")
    with pytest.raises(RequestError, match=r"accepted 0 of 80 candidates, and `count` asks for 2"):
        choose(steep, pixels_of, lambda seeds: None, None, request)


def test_what_decides_gamma():
    def given(**options):
        return SelectionRequest(reject="drs", count=7, calibration="none", **options)

    assert given().gamma_choice() == {"budget": 4} and given(budget=9).gamma_choice() == {"budget": 9}
    assert given(gamma=0.0).gamma_choice() == {"gamma": 0.0}
    assert given(gamma_percentile=80.0).gamma_choice() == {"percentile": 80.0}
    assert given().needed == 28 and given(budget=9).needed == 63


def test_real_images_are_those_of_the_class(steep, real, tmp_path):
    dataset = ImageDataset(real)
    for wanted in (0, 1):
        found = select_seeds._shuffled(dataset, wanted, 2)
        assert len(found) == 30 and {dataset.label(int(i)) for i in found} == {wanted}
        assert found.tolist() != sorted(found)
    assert sorted(select_seeds._shuffled(dataset, None, 0)) == list(range(60))
    with pytest.raises(RequestError, match="must hold images of the class 5; it has none"):
        select_seeds._shuffled(dataset, 5, 6)
    with pytest.raises(RequestError, match=r"^`calibration_data` must hold images of 1 classes; .* has 2"):
        select_seeds._shuffled(dataset, None, 1)
    for wanted in (None, 0):  # a class of another name is another class, whatever its index
        with pytest.raises(RequestError, match=r"must hold images of 2 classes, dusk, dawn; .* has 2: "):
            select_seeds._shuffled(dataset, wanted, 2, ["dusk", "dawn"])
    nameless = ImageDataset(write_dataset(tmp_path / "nameless.zip", [(16, 16)] * 6, [0, 1, 2] * 2))
    assert len(select_seeds._shuffled(nameless, 0, 2, ["day", "night"])) == 2  # names that cannot be compared


def test_drs_takes_gamma_and_percentiles(select, tmp_path):
    fixed = select("drs", tmp_path / "a", "--gamma", "-1", count=2).json["rejection"]
    assert fixed["gamma"] == -1
    low, high = (
        select("drs", tmp_path / str(p), "--gamma-percentile", p, count=3).json["rejection"]["candidates"]
        for p in (1, 80)
    )
    assert low < high


def test_a_grid_of_what_is_accepted(select, tmp_path):
    outcome = select("obrs", tmp_path / "grid.png", "--grid", "3x2", "--seeds", "100-199")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (48, 32)
    assert all(100 <= seed < 124 for seed in outcome.json["seeds"])


def test_by_class(tiny_config, real, select, tmp_path):
    torch.manual_seed(3)
    network = dataclasses.replace(tiny_config.network, num_classes=2)
    config = dataclasses.replace(tiny_config, network=network)
    path = tmp_path / "conditional.safetensors"
    snapshot.save(path, Generator(network), Discriminator(network), config, 0, ["day", "night"])
    outcomes = [select("obrs", tmp_path / c, "--class", c, source=path) for c in ("day", "night")]
    assert [o.code for o in outcomes] == [0, 0], outcomes[0].err
    assert [o.json["rejection"]["calibration"]["images"] for o in outcomes] == [24, 24]
    assert outcomes[0].json["rejection"]["calibration"] != outcomes[1].json["rejection"]["calibration"]
    refused(select("obrs", tmp_path / "x", source=path), "--class must be given")


def test_a_warning_where_the_discriminator_has_seen_the_images(select, tiny_run, tiny_dataset, tmp_path):
    outcome = select("obrs", tmp_path, data=tiny_dataset)
    assert outcome.json["rejection"]["trained_on_data"] is True and "was trained on" in outcome.err


# KeepTraining


def test_keep_training_writes_a_new_snapshot_with_a_better_discriminator(select, tiny_run, tmp_path):
    better = tmp_path / "better.safetensors"
    arguments = ("--keep-training", better, "--keep-kimg", 0.05)
    outcome = select("drs", tmp_path / "a", *arguments)
    assert outcome.code == 0, outcome.err
    found = outcome.json["rejection"]["keep_training"]
    assert 0 < found["best_step"] <= found["steps"] <= 6
    assert found["loss_after"] < found["loss_before"] and found["snapshot"] == str(better)
    assert "on 36 images, for at most 0.05 kimg" in outcome.err  # three fifths of 60, and one to stop by
    assert outcome.json["rejection"]["calibration"]["images"] == 12  # the fifth that D has not met
    old, new = snapshot.find(tiny_run), snapshot.load(better)
    assert new.config == old.config and new.cur_nimg == old.cur_nimg
    same = {name: torch.equal(value, new.G_ema.state_dict()[name]) for name, value in old.G_ema.state_dict().items()}
    assert all(same.values())
    assert not torch.equal(old.D.b4.out.weight, new.D.b4.out.weight)
    content = better.read_bytes()
    refused(select("drs", tmp_path / "b", *arguments, "--overwrite"), "--keep-training would replace")
    assert better.read_bytes() == content
    other = tmp_path / "again.safetensors"
    assert select("drs", tmp_path / "c", "--keep-training", other, "--keep-kimg", 0.05).code == 0
    twin = snapshot.load(other).D.state_dict()
    assert all(torch.equal(value, twin[name]) for name, value in new.D.state_dict().items())  # deterministic


def toy(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))


def normal(mean, count, seed):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield (torch.randn([count, 1], generator=generator) + mean,)


def test_keep_training_finds_the_ratio_of_densities():
    D = toy(0)
    held_out = [next(normal(1, 2000, 2))], [next(normal(0, 2000, 3))]
    settings = KeepTrainingSettings(learning_rate=0.01, max_steps=1500, beta1=0.9)
    kept = keep_training.keep_training(D, normal(1, 128, 0), normal(0, 128, 1), *held_out, settings)
    x = torch.linspace(-1, 2, 7)[:, None]
    assert D(x).detach() == pytest.approx(x - 0.5, abs=0.25)  # log N(1, 1) / N(0, 1)
    assert kept.losses[kept.best_step // 50] == min(kept.losses)
    assert not any(p.requires_grad for p in D.parameters())


class Conditional(torch.nn.Module):
    """Logits of images [N, 1, 2, 2] and classes [N, 2], bent enough that every gradient counts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.image, self.label = torch.nn.Linear(4, 6), torch.nn.Linear(2, 6)

    def forward(self, img, c):
        return (torch.tanh(self.image(img.flatten(1))) * self.label(c)).sum(1, keepdim=True)


@pytest.mark.parametrize("r1_gamma", [0.0, 3.0])
def test_a_step_of_keep_training_is_that_of_the_papers(r1_gamma):
    generator = torch.Generator().manual_seed(6)
    images = (
        torch.randn([2, 6, 5, 1, 2, 2], generator=generator) + torch.tensor([1.0, 0.0])[:, None, None, None, None, None]
    )
    classes = torch.eye(2)[torch.arange(5) % 2]
    held_out = [(torch.randn([n, 1, 2, 2], generator=generator), torch.eye(2)[[0] * n]) for n in (3, 1, 3, 1)]
    settings = KeepTrainingSettings(
        learning_rate=0.1, beta1=0.3, beta2=0.9, r1_gamma=r1_gamma, r1_interval=2, check_interval=2, max_steps=5
    )
    real, gen = (iter([(batch, classes) for batch in part]) for part in images)
    D = Conditional()
    kept = keep_training.keep_training(D, real, gen, held_out[:2], held_out[2:], settings)

    def held_out_loss(model):
        with torch.no_grad():
            pairs = ((held_out[:2], -1), (held_out[2:], 1))  # a mean over images, of batches of 3 and 1
            return sum(
                sum(torch.log1p(torch.exp(sign * model(*batch))).sum() for batch in part) / 4 for part, sign in pairs
            ).item()

    other, expected = Conditional(), []
    lazy = 2 / 3 if r1_gamma else 1  # Karras et al. 2020, appendix B
    optimizer = torch.optim.Adam(other.parameters(), lr=0.1 * lazy, betas=(0.3**lazy, 0.9**lazy), eps=1e-8)
    expected.append(held_out_loss(other))
    for step in range(5):
        loss = -torch.log(torch.sigmoid(other(images[0, step], classes))).mean()
        loss = loss - torch.log(1 - torch.sigmoid(other(images[1, step], classes))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if r1_gamma and step in (0, 2, 4):
            x = images[0, step].clone().requires_grad_()
            (slope,) = torch.autograd.grad(other(x, classes).sum(), x, create_graph=True)
            optimizer.zero_grad()
            (2 * r1_gamma / 2 * (slope**2).sum() / 5).backward()
            optimizer.step()
        if step in (1, 3):
            expected.append(held_out_loss(other))
    assert kept.losses == pytest.approx(expected, rel=1e-5) and kept.steps == 5
    assert kept.best_step == 2 * int(np.argmin(expected))
    assert kept.figures() == {
        "steps": 5, "best_step": kept.best_step, "loss_before": kept.losses[0], "loss_after": min(kept.losses)
    }  # fmt: skip
    assert held_out_loss(D) == pytest.approx(min(expected), rel=1e-5)


def test_keep_training_stops_when_images_are_learned_by_heart_and_goes_back_to_the_best():
    D = toy(1)
    few_real, few_gen = next(normal(1, 8, 0)), next(normal(0, 8, 1))
    held_out = [next(normal(1, 500, 2))], [next(normal(0, 500, 3))]
    settings = KeepTrainingSettings(learning_rate=0.02, beta1=0.9, check_interval=5, patience=4, max_steps=5000)
    kept = keep_training.keep_training(D, iter(lambda: few_real, 0), iter(lambda: few_gen, 0), *held_out, settings)
    assert kept.steps == kept.best_step + 4 * 5 < 5000
    assert min(kept.losses) == kept.losses[kept.best_step // 5] < kept.losses[-1]
    assert kept.losses[-1] > kept.figures()["loss_after"]
    (real,), (gen,) = held_out
    with torch.no_grad():
        left = sum(loss.mean().item() for loss in losses.discriminator_loss(D(*real), D(*gen)))
    assert left == pytest.approx(min(kept.losses), rel=1e-6)


def test_a_discriminator_that_gets_no_better_stays_as_it_was():
    D = toy(2)
    before = [p.clone() for p in D.parameters()]
    held_out = [next(normal(0, 500, 2))], [next(normal(1, 500, 3))]  # the other way round
    D[2].weight.data.zero_(), D[2].bias.data.zero_()
    before = [p.clone() for p in D.parameters()]
    settings = KeepTrainingSettings(learning_rate=0.05, check_interval=2, patience=2)
    kept = keep_training.keep_training(D, normal(1, 64, 0), normal(0, 64, 1), *held_out, settings)
    assert kept == KeptTraining(steps=4, best_step=0, losses=kept.losses)
    assert all(torch.equal(a, b) for a, b in zip(D.parameters(), before, strict=True))


def test_a_loss_that_is_not_finite_is_an_error():
    D, held_out = toy(3), ([next(normal(1, 8, 2))], [next(normal(0, 8, 3))])
    D[2].bias.data.fill_(torch.nan)
    with pytest.raises(SalonError, match="the held-out loss became nan"):
        keep_training.keep_training(
            D, normal(1, 8, 0), normal(0, 8, 1), *held_out, KeepTrainingSettings(learning_rate=0.01)
        )


def test_r1_holds_the_discriminator_flat(tiny_config, real):
    def slope(r1_gamma):
        torch.manual_seed(4)
        network = tiny_config.network
        config = dataclasses.replace(tiny_config, r1_gamma=r1_gamma, r1_interval=2)
        source = snapshot.Snapshot(
            path=real, G_ema=Generator(network), D=Discriminator(network), config=config, cur_nimg=0, classes=None
        )
        dark = np.zeros([16, 16, 3], np.uint8)
        order = np.arange(60)
        kept = keep_training.keep_training_on_images(
            source, ImageDataset(real), order[:40], order[40:], lambda seeds, classes: [dark] * len(seeds), max_kimg=0.2
        )
        return kept.losses[-1]

    assert slope(0.0) < 0.7 * slope(300.0)


def test_what_d_learns_from_and_what_is_held_out(tiny_config, real, monkeypatch):
    network = dataclasses.replace(tiny_config.network, num_classes=2)
    config = dataclasses.replace(
        tiny_config, network=network, batch_size=8, r1_gamma=2.0, r1_interval=4, mirror=True, learning_rate=0.003
    )
    source = snapshot.Snapshot(
        path=real, G_ema=Generator(network), D=Discriminator(network), config=config, cur_nimg=0, classes=None
    )
    dataset, painted, given = ImageDataset(real), [], []

    def paint(seeds, classes):
        painted.append((list(seeds), classes))
        return pixels_of(seeds, classes)

    monkeypatch.setattr(keep_training, "keep_training", lambda *arguments: given.extend(arguments))
    learn, stop = np.arange(0, 41), np.arange(41, 60)  # of 19, 16 make whole groups of 4
    keep_training.keep_training_on_images(source, dataset, learn, stop, paint, max_kimg=0.2)
    D, real_batches, gen_batches, held_out_real, held_out_gen, settings = given
    assert D is source.D and settings == KeepTrainingSettings(
        learning_rate=0.003, beta1=config.beta1, beta2=config.beta2, r1_gamma=2.0, r1_interval=4, check_interval=5,
        max_steps=25,
    )  # fmt: skip
    labels = [dataset.label(i) for i in range(60)]

    def img(pixels):
        return torch.from_numpy(np.stack(pixels)) / 127.5 - 1

    for batch, first in zip(held_out_real, (41, 49), strict=True):
        torch.testing.assert_close(batch[0], img([dataset.pixels(i) for i in range(first, first + 8)]))
        assert batch[1].argmax(1).tolist() == labels[first : first + 8]
    below = list(range(2**31 - 16, 2**31))
    assert painted == [(below[:8], labels[41:49]), (below[8:], labels[49:57])]
    for batch, (seeds, classes) in zip(held_out_gen, painted, strict=True):
        torch.testing.assert_close(batch[0], img([p.transpose(2, 0, 1) for p in pixels_of(seeds, None)]))
        assert batch[1].argmax(1).tolist() == classes
    drawn = [next(gen_batches) for _ in range(20)]
    assert [seed for seeds, _ in painted[2:] for seed in seeds] == list(range(2**31, 2**31 + 160))
    classes = [label for _, classes in painted[2:] for label in classes]
    assert torch.cat([c for _, c in drawn]).argmax(1).tolist() == classes and 50 < sum(classes) < 110
    known = {img([dataset.pixels(i)]).numpy().tobytes(): i for i in learn}
    mirrored = {img([dataset.pixels(i)[:, :, ::-1].copy()]).numpy().tobytes(): i for i in learn}
    seen = []
    for _ in range(10):
        batch, one_hot = next(real_batches)
        for image, c in zip(batch, one_hot, strict=True):
            key = image[None].numpy().tobytes()
            seen.append(((known | mirrored)[key], key in known))
            assert int(c.argmax()) == labels[seen[-1][0]]
    assert len({place for place, _ in seen}) == 41 and 0.25 < np.mean([plain for _, plain in seen]) < 0.75


def test_too_few_images_are_refused(tiny_config, real):
    network = tiny_config.network
    source = snapshot.Snapshot(
        path=real, G_ema=Generator(network), D=Discriminator(network), config=tiny_config, cur_nimg=0, classes=None
    )
    with pytest.raises(RequestError, match="must hold out at least 4 images for `keep_training`; got 3 instead"):
        keep_training.keep_training_on_images(
            source, ImageDataset(real), np.arange(40), np.arange(40, 43), lambda *_: [], max_kimg=1
        )


# Requests that are refused


def refused(outcome, *fragments):
    assert outcome.code == 2 and outcome.out == "", outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith("Error: ") and "Traceback" not in outcome.err
    for fragment in fragments:
        assert fragment in last


REFUSED = {
    "no count": (["--reject", "drs"], ["--reject needs --count"]),
    "no reject": (["--seeds", "0", "--budget", "3"], ["--budget needs --reject"]),
    "no data": (["--reject", "drs", "--count", "2"], ["needs --data DATASET", "--calibration none"]),
    "mh without data": (
        ["--reject", "mh", "--count", "2", "--calibration", "none"],
        ["--reject mh needs --data DATASET"],
    ),
    "keep without data": (
        ["--reject", "drs", "--count", "2", "--calibration", "none", "--keep-training", "{new}.safetensors"],
        ["--keep-training needs --data"],
    ),
    "gamma and budget": (
        ["--reject", "drs", "--count", "2", "--gamma", "0", "--budget", "2", "--data", "{data}"],
        ["--budget and --gamma exclude each other"],
    ),
    "gamma of mh": (
        ["--reject", "mh", "--count", "2", "--gamma-percentile", "80", "--data", "{data}"],
        ["--gamma-percentile needs --reject drs"],
    ),
    "few candidates": (
        ["--reject", "obrs", "--count", "2", "--budget", "3", "--seeds", "0-4", "--data", "{data}"],
        ["--seeds must name at least 6 candidates", "got 5 instead"],
    ),
    "few candidates of drs": (
        ["--reject", "drs", "--count", "9", "--seeds", "0-9", "--gamma", "30", "--data", "{data}", "--burn-in", "16"],
        ["of 10 candidates", "--count asks for 9", "lower --gamma"],
    ),
    "few real images": (
        ["--reject", "obrs", "--count", "2", "--data", "{data}", "--burn-in", "7"],
        ["at least 8 real and 8 generated", "got 7 and 7"],
    ),
    "absent data": (["--reject", "obrs", "--count", "2", "--data", "{new}"], ["does not exist"]),
    "size of data": (["--reject", "obrs", "--count", "2", "--data", "{large}"], ["--data must hold images of 16x16"]),
    "grid": (["--reject", "obrs", "--count", "5", "--grid", "2x2", "--data", "{data}"], ["4 cells", "5 images"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tiny_run, real, tmp_path):
    large = write_dataset(tmp_path / "large.zip", [(32, 32)] * 2)
    places = {"data": real, "new": tmp_path / "new", "large": large}
    arguments, fragments = REFUSED[case]
    out = tmp_path / ("out.png" if "--grid" in arguments else "out")
    refused(run_salon("generate", tiny_run, *(a.format(**places) for a in arguments), "--out", out), *fragments)
    assert [path.name for path in tmp_path.iterdir()] == ["large.zip"]


def test_an_image_that_is_there_is_not_replaced(select, tmp_path):
    (tmp_path / "seed0000.png").write_text("mine")
    refused(select("obrs", tmp_path), "--out would replace", "--overwrite")
    assert select("obrs", tmp_path, "--overwrite").code == 0


def test_a_snapshot_without_discriminator_is_refused(tiny_run, real, select, tmp_path):
    found = snapshot.find(tiny_run)
    snapshot.save(tmp_path / "alone.safetensors", found.G_ema, None, found.config, 0, None)
    refused(select("obrs", tmp_path / "x", source=tmp_path / "alone.safetensors"), "--reject needs a discriminator")
