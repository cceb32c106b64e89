"""`salon push` and `salon pull`, over HTTP to a hub on this machine, by way of huggingface_hub."""

import hashlib
import json
import os
import pickle
import signal
import sys

import numpy as np
import pytest
from conftest import SalonProcess, run_salon, until
from hub_server import READ_TOKEN, TOKEN, commit_name, local_hub
from safetensors.numpy import save as tensors_as_bytes
from test_cli import refused

from gan import snapshot
from gan.data.dataset import ImageDataset
from serving.hub import kinds

# httpx would like its users to send files otherwise than huggingface_hub does.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

MODEL = "me/paintings"
MIB = 1 << 20


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that is empty, and is the one that Salon speaks to, with a token."""
    with local_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
        yield server


@pytest.fixture(scope="module")
def model_card(tiny_run, tmp_path_factory):
    """A card of tiny_run. Not to be changed."""
    folder = tmp_path_factory.mktemp("cards") / "model"
    outcome = run_salon("card", tiny_run, "--out", folder, "--seeds", "0-1", "--license", "mit")
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture(scope="module")
def data_card(tiny_dataset, tmp_path_factory):
    """A card of tiny_dataset. Not to be changed."""
    folder = tmp_path_factory.mktemp("cards") / "data"
    outcome = run_salon("card", tiny_dataset, "--out", folder)
    assert outcome.code == 0, outcome.err
    return folder


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def large(size):
    """A safetensors file of random bytes, and of at least `size`."""
    return tensors_as_bytes({"noise": np.random.default_rng(0).integers(0, 256, size, np.uint8)})


def files_list(files, kind="model"):
    """What `salon push` writes of files (name -> bytes)."""
    listed = {
        name: kinds.Listed(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in files.items()
    }
    return kinds.listing(kind, listed)


# Round trips


def test_a_generator_comes_back_as_it_went_and_generates(hub, tiny_run, model_card, tmp_path):
    sent = run_salon("push", tiny_run, MODEL, "--card", model_card, "--private", "--message", "First", "--json").json
    out = tmp_path / "gan"
    pulled = run_salon("pull", MODEL, "--out", out, "--json")
    assert pulled.code == 0, pulled.err
    newest = snapshot.find(tiny_run).path
    expected = digests(model_card) | {newest.name: hashlib.sha256(newest.read_bytes()).hexdigest()}
    assert digests(out) == expected
    assert {name: one["sha256"] for name, one in pulled.json["files"].items()} == expected
    assert {name: one["sha256"] for name, one in sent["files"].items()} == expected
    assert sent["commit"] == pulled.json["commit"] and sent["new"] and sent["repo"] == MODEL
    assert hub.repos["model", MODEL].private and hub.repos["model", MODEL].messages == ["First"]
    assert f"MB, from {hub.url}/{MODEL} at {sent['commit'][:12]}" in pulled.err
    made = run_salon("generate", out, "--seeds", "0-1", "--grid", "2x1", "--out", tmp_path / "grid.png")
    assert made.code == 0, made.err
    assert run_salon("verify", out / "samples.png", "--snapshot", out).code == 0
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_dataset_comes_back_as_it_went_and_trains(hub, tiny_dataset, data_card, tmp_path):
    sent = run_salon("push", tiny_dataset, "me/tiny", "--card", data_card, "--json").json
    assert sent["repo"] == "datasets/me/tiny" and not hub.repos["dataset", "me/tiny"].private
    out = tmp_path / "data"
    assert run_salon("pull", sent["repo"], "--out", out).code == 0
    expected = digests(data_card) | {tiny_dataset.name: hashlib.sha256(tiny_dataset.read_bytes()).hexdigest()}
    assert digests(out) == expected
    assert ImageDataset(out / tiny_dataset.name).fingerprint() == ImageDataset(tiny_dataset).fingerprint()


def test_only_the_hub_itself_sees_the_token(hub, tiny_run, tmp_path):
    assert run_salon("push", tiny_run, MODEL).code == 0
    hub.asked.clear()
    assert run_salon("pull", MODEL, "--out", tmp_path / "gan").code == 0
    seen = {(path.split("/")[1], headers.get("Authorization")) for _, path, headers in hub.asked}
    assert seen == {("api", f"Bearer {TOKEN}"), ("me", f"Bearer {TOKEN}"), ("cdn", None)}


def test_a_new_snapshot_is_a_commit_more_and_revisions_name_each(hub, tmp_path):
    first, second = {"snapshot-0000000001.safetensors": large(9)}, {"snapshot-0000000002.safetensors": large(8)}
    hub.put("model", MODEL, first | {kinds.FILES: files_list(first)})
    hub.put("model", MODEL, second | {kinds.FILES: files_list(second)})
    assert run_salon("pull", MODEL, "--out", tmp_path / "new").code == 0
    assert run_salon("pull", MODEL, "--revision", commit_name(1), "--out", tmp_path / "old").code == 0
    assert set(digests(tmp_path / "new")) == set(second) and set(digests(tmp_path / "old")) == set(first)
    refused(run_salon("pull", MODEL, "--revision", "v9", "--out", tmp_path / "none"), "--revision", "v9")


def test_an_existing_repository_is_added_to_only_where_asked(hub, tiny_run, model_card):
    assert run_salon("push", tiny_run, MODEL).code == 0
    refused(run_salon("push", tiny_run, MODEL, "--card", model_card), MODEL, "exists, with 2 files", "--overwrite")
    assert len(hub.repos["model", MODEL].messages) == 1
    refused(run_salon("push", tiny_run, MODEL, "--overwrite", "--private"), "is public")
    assert run_salon("push", tiny_run, MODEL, "--card", model_card, "--overwrite").code == 0
    assert {"README.md", "samples.png", "card.json"} <= set(hub.files("model", MODEL))


def test_a_push_goes_on_after_the_repository_was_made_and_files_were_sent(hub, tiny_run):
    hub.put("model", MODEL, {})
    content = snapshot.find(tiny_run).path.read_bytes()
    hub.objects[hashlib.sha256(content).hexdigest()] = content
    assert run_salon("push", tiny_run, MODEL).code == 0
    assert [path for method, path, _ in hub.asked if method == "PUT"] == []
    assert content in hub.files("model", MODEL).values()


# What is refused


def test_programs_and_what_lies_in_folders_are_left_where_they_are(hub, tmp_path):
    good = {"snapshot-0000000001.safetensors": large(9), "card.json": b"{}"}
    bad = {
        "weights.pkl": pickle.dumps(os.system),
        "handler.py": b"raise SystemExit",
        "sub/snapshot-0000000009.safetensors": large(9),
        ".hidden.json": b"{}",
    }
    hub.put("model", MODEL, good | bad)
    outcome = run_salon("pull", MODEL, "--out", tmp_path / "gan", "--json")
    assert outcome.code == 0 and set(digests(tmp_path / "gan")) == set(good)
    assert outcome.json["passed_over"] == sorted(bad)
    assert "weights.pkl (may execute programs)" in outcome.err and "has no salon-files.json" in outcome.err
    assert not [path for _, path, _ in hub.asked if path.endswith((".pkl", ".py"))]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model.pkl": b"\x80\x04."}, "model.pkl may execute programs"),
        ({"data.zip": b"PK"}, "datasets/OWNER/NAME"),
        ({"snapshot-0000000001.safetensors": pickle.dumps(list(range(99)))}, "must be a file as its name says"),
        ({"snapshot-0000000001.safetensors": large(9), "a.png": b"GIF89a"}, "a.png must be a file as its name says"),
    ],
)
def test_what_is_no_file_of_salons_is_refused(hub, tmp_path, files, said):
    hub.put("model", MODEL, files)
    refused(run_salon("pull", MODEL, "--out", tmp_path / "gan"), said)
    assert not (tmp_path / "gan").exists()


def test_a_file_that_is_not_what_its_hashes_say_is_refused(hub, tmp_path):
    name, content, out = "snapshot-0000000001.safetensors", large(5000), tmp_path / "gan"
    digest = hashlib.sha256(content).hexdigest()
    hub.put("model", MODEL, {name: content, "card.json": b"{}", kinds.FILES: files_list({name: content})})
    hub.lies[digest] = large(4999)[:-1] + b"\0" + b"x" * (len(content) - len(large(4999)))
    refused(run_salon("pull", MODEL, "--out", out), name, "not what was pushed", digest)
    assert not out.exists()
    hub.lies[digest] = content + b"x"
    refused(run_salon("pull", MODEL, "--out", out), name, "sends more")
    assert not out.exists()
    del hub.lies[digest]
    assert run_salon("pull", MODEL, "--out", out).code == 0 and digests(out)[name] == digest
    refused(run_salon("pull", MODEL, "--out", out), "--out", "would replace")


def test_a_file_that_git_holds_has_gits_hash(hub, tmp_path):
    hub.put("model", MODEL, {"snapshot-0000000001.safetensors": large(9), "README.md": b"# One\n"})
    hub.lies["README.md"] = b"# Two\n"
    refused(run_salon("pull", MODEL, "--out", tmp_path / "gan"), "README.md", "hash in Git")
    assert not (tmp_path / "gan").exists()


def test_a_folder_that_came_meanwhile_is_left_alone(hub, tmp_path):
    hub.put("model", MODEL, {"snapshot-0000000001.safetensors": large(9)})
    hub.meanwhile = lambda: (tmp_path / "gan").mkdir()
    refused(run_salon("pull", MODEL, "--out", tmp_path / "gan"), "--out", "would replace")
    assert list((tmp_path / "gan").iterdir()) == []


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (lambda good: files_list({**good, "x.safetensors": b""}), "x.safetensors is missing"),
        (lambda good: files_list({name: content + b"x" for name, content in good.items()}), "not what was pushed"),
        (lambda good: files_list({name: content[::-1] for name, content in good.items()}), "not what was pushed"),
        (lambda good: files_list({"../up.json": b""}), "allowed kinds alone"),
        (lambda good: files_list(good, "dataset"), "must be of a model"),
        (lambda good: files_list(good).replace(b'"sha256": "', b'"sha256": "../'), "must list files"),
        (lambda good: b"[]", "must list files"),
        (lambda good: b'{"format": "salon-files-1", "kind": "model", "files": {"a.json": 1}}', "must list files"),
        (lambda good: b'{"format": "salon-files-9"}', "in the format salon-files-1"),
    ],
)
def test_a_list_that_does_not_fit_the_repository_is_refused_before_files_are_fetched(hub, tmp_path, listed, said):
    good = {"snapshot-0000000001.safetensors": large(9)}
    hub.put("model", MODEL, good | {kinds.FILES: listed(good)})
    refused(run_salon("pull", MODEL, "--out", tmp_path / "gan"), said)
    assert list(tmp_path.iterdir()) == [] and not [path for _, path, _ in hub.asked if path.startswith("/cdn")]


def test_a_readme_may_be_changed_on_the_hub(hub, tiny_run, model_card, tmp_path):
    assert run_salon("push", tiny_run, MODEL, "--card", model_card).code == 0
    hub.put("model", MODEL, {"README.md": b"# Changed\n"})
    assert run_salon("pull", MODEL, "--out", tmp_path / "gan").code == 0
    assert (tmp_path / "gan" / "README.md").read_bytes() == b"# Changed\n"


def test_a_card_of_something_else_or_with_other_files_is_refused(
    hub, tiny_run, conditional_snapshot, model_card, data_card, tmp_path
):
    refused(run_salon("push", conditional_snapshot, MODEL, "--card", model_card), "--card", "is of another")
    refused(run_salon("push", tiny_run, MODEL, "--card", data_card), "--card", "images.jsonl")
    refused(run_salon("push", tiny_run, MODEL, "--card", tmp_path), "--card", "has no README.md")
    folder = tmp_path / "card"
    folder.mkdir()
    for path in model_card.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name, content in (("notes.pkl", b"\x80"), (".env", b"SECRET"), ("x.safetensors", b""), ("y.png", b"\x80")):
        (folder / name).write_bytes(content)
        refused(run_salon("push", tiny_run, MODEL, "--card", folder), name)
        (folder / name).unlink()
    refused(run_salon("push", tiny_run, "datasets/me/x"), "REPO", "OWNER/NAME for a snapshot")
    assert hub.asked == []


def test_hashes_of_a_hub_never_name_other_files(hub, tmp_path, monkeypatch):
    hub.put("model", MODEL, {"snapshot-0000000001.safetensors": large(9), "a.json": b"{}"})
    monkeypatch.setattr("hub_server.git_sha1", lambda content: "../../../gan")
    refused(run_salon("pull", MODEL, "--out", tmp_path / "gan"), "must give hashes")
    assert list(tmp_path.iterdir()) == []


# Faults


def test_each_fault_of_the_hub_is_one_line(hub, tiny_run, tmp_path, monkeypatch):
    out = ("--out", tmp_path / "gan")
    refused(run_salon("push", tiny_run, "else/where"), "else/where", "closed to this token", "no rights")
    refused(run_salon("pull", "me/nothing", *out), "me/nothing", "there is none")
    hub.put("model", MODEL, {"snapshot-0000000001.safetensors": large(9)})
    hub.repos["model", MODEL].private = True
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    refused(run_salon("push", tiny_run, "me/other"), "me/other", "closed to this token")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused(run_salon("push", tiny_run, "me/other"), "does not take this token")
    refused(run_salon("pull", MODEL, *out), "does not take this token")
    monkeypatch.delenv("HF_TOKEN")
    refused(run_salon("push", tiny_run, "me/other"), "needs a token", "hf auth login")
    refused(run_salon("pull", MODEL, *out), "is private and needs a token")
    hub.repos["model", MODEL].private = False
    assert run_salon("pull", MODEL, *out).code == 0  # without a token
    hub.status = 503
    outcome = run_salon("pull", MODEL, "--out", tmp_path / "again")
    assert outcome.code == 1 and "at fault now" in outcome.err and outcome.err.count("\n") == 1


def test_no_network_and_no_hub_are_one_line(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    outcome = run_salon("pull", MODEL, "--out", tmp_path / "gan")
    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert "http://127.0.0.1:1 cannot be reached" in outcome.err and "the same command goes on" in outcome.err
    monkeypatch.setenv("HF_ENDPOINT", "huggingface.co")
    refused(run_salon("pull", MODEL, "--out", tmp_path / "gan"), "HF_ENDPOINT")


@pytest.mark.parametrize("repo", ["paintings", "a/b/c", "../up", "me/..", "spaces/me/x", "me/a--b", "me/", "me/a b"])
def test_a_repository_has_an_owner_and_a_name(repo, tmp_path):
    refused(run_salon("pull", repo, "--out", tmp_path / "gan"), "REPO must be OWNER/NAME", repo)


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused(run_salon("pull", MODEL, "--out", tmp_path / "gan"), "salon[hub]")


# Interrupted


def test_a_connection_that_ends_is_made_again_from_where_it_ended(hub, tmp_path):
    name, content = "snapshot-0000000001.safetensors", large(2 * MIB)
    hub.put("model", MODEL, {name: content})
    hub.cut_at = MIB + 5
    assert run_salon("pull", MODEL, "--out", tmp_path / "gan").code == 0
    assert (tmp_path / "gan" / name).read_bytes() == content
    assert ranges(hub) == [None, f"bytes={MIB}-"]


def test_a_killed_pull_goes_on_and_leaves_nothing_elsewhere(hub, tmp_path):
    name, content = "snapshot-0000000001.safetensors", large(3 * MIB)
    hub.put("model", MODEL, {name: content, "README.md": b"# One\n"})
    hub.stop_at = 2 * MIB
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "HF_HOME": str(home / "huggingface"), "XDG_CACHE_HOME": str(home / "cache")}
    work, out = tmp_path / ".gan.pulling", tmp_path / "gan"
    command = ("pull", MODEL, "--out", out)
    pulling = SalonProcess(tmp_path, *command, environment=environment)
    part = work / "parts" / hashlib.sha256(content).hexdigest()
    until(lambda: part.exists() and part.stat().st_size == 2 * MIB, pulling)
    os.kill(pulling.pid, signal.SIGKILL)
    pulling.process.join()
    hub.stopped.set()
    assert not out.exists() and (work / "files" / "README.md").exists()
    again = SalonProcess(tmp_path, *command, environment=environment, name="again").wait()
    assert again.code == 0, again.err
    assert (out / name).read_bytes() == content and not work.exists()
    assert ranges(hub) == [None, f"bytes={2 * MIB}-"]
    assert list(home.iterdir()) == []


def ranges(hub):
    """What was asked of the host of large files."""
    return [headers.get("Range") for _, path, headers in hub.asked if path.startswith("/cdn")]


def test_the_list_names_each_file_but_the_card(hub, tiny_run, model_card):
    assert run_salon("push", tiny_run, MODEL, "--card", model_card).code == 0
    listed = json.loads(hub.files("model", MODEL)[kinds.FILES])
    assert listed["format"] == "salon-files-1" and listed["kind"] == "model"
    sent = {name: content for name, content in hub.files("model", MODEL).items() if name in listed["files"]}
    assert set(hub.files("model", MODEL)) - set(sent) == {".gitattributes", "README.md", kinds.FILES}
    assert listed["files"] == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in sent.items()
    }
