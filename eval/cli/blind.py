"""The command eval blind. Heavy imports wait until it runs."""

import secrets
from typing import Any

import click

from eval.request import BlindRequest
from gan.cli.command import Command, takes
from gan.cli.options import PATH, WholeRange, json_option, seed_option
from gan.errors import RequestError
from gan.runtime.console import result, say, table


@click.command(cls=Command)
@takes(BlindRequest)
@click.option("--images", metavar="FOLDER|ZIP|NPZ", type=PATH, help="Generated pictures.")
@click.option(
    "--data", metavar="DATASET", type=PATH, help="Real pictures: a dataset, or a folder, ZIP or array of them."
)
@click.option("--out", metavar="DIR", type=PATH, help="Folder of blind.json and answers.jsonl, a row an answer.")
@click.option("--results", is_flag=True, help="Results of --out alone, without a page.")
@click.option("--pairs", is_flag=True, help="Pictures in pairs: which of the two is real?")
@click.option("--count", metavar="NIMG", type=WholeRange(1), help="Real pictures to show, and as many generated ones.")
@click.option(
    "--size", metavar="PX", type=WholeRange(16), help="Side of all pictures. Default: the smallest one's, 512 at most."
)
@seed_option("Seed of the choice of pictures and of each judge's order.")
@click.option("--feedback", is_flag=True, help="Number of right answers, told to each judge at the end.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on; the default is this machine's alone.")
@click.option("--port", metavar="PORT", type=WholeRange(0, 65535), help="Port of the page; 0 is any that is free.")
@click.option("--allow-host", metavar="NAME", multiple=True, help="Host name that the page is reached by; repeat.")
@json_option
def blind(request: BlindRequest, as_json: bool) -> None:
    """Let people tell real from generated pictures on a page, by keyboard or touch, and say how often they are wrong.

    All pictures are sent in one way, size and length. Each judge gives a name, has an order of their own, and goes on
    where they were. Ctrl-C ends it and prints the results; the same command goes on with the test.

    \b
    salon eval blind --images pictures --data paintings64.zip --out judged
    salon eval blind --out judged --results
    """
    from eval.blind.answers import read_answers, read_record
    from eval.blind.results import results

    if not request.results:
        _serve(request)
    record = read_record(request.out)
    figures = results(record, read_answers(request.out))
    result(_text(figures), {"out": str(request.out), **figures}, as_json)


def _serve(request: BlindRequest) -> None:
    from eval.blind.answers import Answers
    from eval.blind.pictures import choose, open_pictures, prepared
    from eval.blind.server import BlindTest, application
    from gan.runtime import web

    assert request.images is not None and request.data is not None  # the request has checked it
    if request.out.is_file():
        raise RequestError(f"--out must be a folder; got the file {request.out} instead")
    gen, real = open_pictures(request.images, "images"), open_pictures(request.data, "data")
    pairs = choose(gen, real, request.count, request.seed)
    files, side = prepared(gen, real, [each for pair in pairs for each in pair], request.size)
    record = {
        "images": gen.identity,
        "data": real.identity,
        "pairs": request.pairs,
        "count": request.count,
        "size": side,
        "seed": request.seed,
    }
    host, token = request.host, secrets.token_urlsafe(9)
    with web.listen(host, request.port, "--host and --port must be an address of this machine and a free port") as port:
        answers = Answers(out=request.out, record=record)
        test = BlindTest(pairs, files, answers, in_pairs=request.pairs, seed=request.seed, feedback=request.feedback)
        if host not in (web.LOCAL, "::1", "localhost"):
            say(f"Warning: on {host} whoever has the address can judge; it is not encrypted")
        address = f"http://{f'[{host}]' if ':' in host else host}:{port.getsockname()[1]}/{token}/"
        say(f"{len(files)} pictures of {side} pixels at {address} until Ctrl-C")
        web.serve(application(test, token, (host, *request.allow_host)), port)


def _text(figures: dict[str, Any]) -> str:
    rows = [*([figures["error"]] if figures["error"] else []), *figures["groups"]]
    header = ["", "answers", "wrong", "95 % interval", "p", "seconds"]
    lines = [
        [
            row["name"],
            row["n"],
            f"{row['value']:.1%}",
            f"{row['low']:.1%} to {row['high']:.1%}",
            f"{row['p']:.2g}",
            f"{row['median_seconds']:.1f}",
        ]
        for row in rows
    ]
    return "\n".join([*([table(lines, header), ""] if lines else []), figures["finding"], figures["note"]])
