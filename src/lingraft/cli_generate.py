"""`lingraft generate` and `lingraft chat`: what models write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_bpb import Attn, Device, Dtype, Load, Models, PackedCache, TrustRemoteCode
from .cli_words import reporter_for
from .errors import InputError

if TYPE_CHECKING:
    from .evals.chatting import Chat
    from .evals.sidebyside import SideBySide

__all__ = ["chat", "generate", "register"]

_GENERATE = (
    "Example: lingraft generate mixtral mixtral-zh --prompts prompts.txt --out continuations.html"
)
_CHAT = "Example: lingraft chat mixtral-zh-chat --temperature 0.7"

Prompts = Annotated[
    Path,
    typer.Option(metavar="FILE", help='Prompts: one a line, or rows {"prompt": ...} of a .jsonl.'),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the table: .md, .html or .json. Default: print it."),
]
Temperature = Annotated[float, typer.Option(help="Logits are divided by it.")]
TopP = Annotated[float, typer.Option(help="Sample from the likeliest tokens that reach it.")]
MaxNewTokens = Annotated[int, typer.Option(help="Tokens to write, at most.")]
Greedy = Annotated[bool, typer.Option("--greedy", help="Take the likeliest token each time.")]
Seed = Annotated[int, typer.Option(help="Decides every sample.")]
MaybeSeed = Annotated[int | None, typer.Option(help="Decides what is sampled. Default: chance.")]
Model = Annotated[str, typer.Argument(help="A model folder, or OWNER/NAME of the hub.")]
System = Annotated[str, typer.Option(metavar="TEXT", help="What the model is told beforehand.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command(epilog=_GENERATE)(generate)
    app.command(epilog=_CHAT)(chat)


def generate(
    models: Models,
    prompts: Prompts,
    out: Out = None,
    temperature: Temperature = 0.8,
    top_p: TopP = 0.9,
    max_new_tokens: MaxNewTokens = 100,
    greedy: Greedy = False,
    seed: Seed = 17,
    load: Load = "full",
    attn: Attn = "",
    dtype: Dtype = "auto",
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    packed_cache: PackedCache = "",
    json: Json = False,
) -> None:
    """Let models continue the same prompts, side by side.

    The same seed, model and prompt give the same text on one machine, whatever else is asked and
    wherever the model lies. A killed call with --out FILE goes on where it was.
    """
    from .evals.continuing import generate as run_generate
    from .evals.plans import LoadPlan
    from .evals.sampling import Sampling
    from .evals.sidebyside import render_json

    table = run_generate(
        models,
        prompts=prompts,
        how=Sampling(temperature, top_p, max_new_tokens, greedy),
        seed=seed,
        plan=LoadPlan(load, attn, dtype, device, trust_remote_code, packed_cache),
        out=out,
        reporter=reporter_for(quiet=json),
    )
    if json:
        print(render_json(table), end="")
    elif out is not None:
        print(f"{out}: {len(table.prompts)} prompts, {len(table.models)} models; {table.how}")
    else:
        _tell(table)


def _tell(table: SideBySide) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for n, prompt in enumerate(table.prompts):
        console.rule(style="dim")
        console.print(Text(prompt, "bold"))
        for by in table.models:
            console.print(Text(f"{by.model}: ", "cyan").append(by.samples[n].text, "default"))
    console.rule(style="dim")
    print(table.how)
    for by in table.models:
        if by.is_grafted:
            print(f"{by.model}: {by.added_share} of the tokens written are new pieces")


def chat(
    model: Model,
    system: System = "",
    temperature: Temperature = 0.8,
    top_p: TopP = 0.9,
    max_new_tokens: MaxNewTokens = 512,
    greedy: Greedy = False,
    seed: MaybeSeed = None,
    load: Load = "full",
    attn: Attn = "",
    dtype: Dtype = "auto",
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    packed_cache: PackedCache = "",
) -> None:
    """Talk to a model. /reset begins anew, /exit or Ctrl-D ends, Ctrl-C stops an answer.

    Through its chat template where it has one; else the text simply goes on, as with a base model.
    """
    from .evals.chatting import Chat
    from .evals.continuing import check_sampling
    from .evals.loading import load_model
    from .evals.plans import LoadPlan
    from .evals.sampling import Sampling, refuse_surrogates

    how = Sampling(temperature, top_p, max_new_tokens, greedy)
    check_sampling(how)
    refuse_surrogates(system, "--system")
    loaded = load_model(model, LoadPlan(load, attn, dtype, device, trust_remote_code, packed_cache))
    if seed is not None:
        import torch

        torch.manual_seed(seed)
    talk = Chat(loaded, how, _write, lambda text: print(text, file=sys.stderr), system)
    talk.greet()
    _converse(talk)


def _write(text: str) -> None:
    print(text, end="", flush=True)


def _converse(talk: Chat) -> None:
    """Take lines until the end; only a terminal shows a prompt.

    Raises:
        InputError: A line is not in the encoding of standard input, or the model cannot go on.
    """
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        import readline  # noqa: F401  # gives `input` its line editing and history
    while True:
        try:
            line = input("> " if is_terminal else "")
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return
        except UnicodeDecodeError as error:
            raise InputError(
                f"standard input: not {error.encoding} text: {error.reason} "
                f"(byte 0x{error.object[error.start]:02X}).",
                way_out="Convert the file: iconv -f LATIN1 -t UTF-8.",
            ) from None
        before = len(talk.turns)
        if not talk.take(line):
            return
        if len(talk.turns) > before:
            print()
