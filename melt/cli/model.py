"""`melt model`: make a model, fetch one, or look into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melt import makers
from melt.cli.console import out, plain, print_json, say
from melt.cli.options import AsJson
from melt.engines.quantize import FILE_TYPES
from melt.engines.quantize import quantize as quantize_file
from melt.errors import UsageError, nearest
from melt.makers import gguf, hub

app = typer.Typer(no_args_is_help=True, help="Make models without a download, fetch, quantise and look into them.")


@app.command(epilog="Example: **melt model make tinyllama-1.1b --quant q4_0**")
def make(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join((*makers.MAKERS, *gguf.NETWORKS))}.")],
    file: Annotated[
        Path | None, typer.Option("--out", help="The file to write; here, by the model's name, if not said.")
    ] = None,
    quant: Annotated[
        str | None, typer.Option("--quant", help=f"Of a language model: {', '.join(gguf.QUANTS)}; q4_0 if not said.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives other weights.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Make a model with the published layer shapes and random weights; it is labelled synthetic everywhere."""
    if name in gguf.NETWORKS:
        of = quant or "q4_0"
        _print_language(gguf.make(name, file or _fresh(f"{name}-{of}.gguf"), quant=of, seed=seed), as_json=as_json)
        return
    if quant is not None and name in makers.MAKERS:
        raise UsageError(f"--quant is for language models, and '{name}' is none: leave it out")
    if name not in makers.MAKERS:
        raise UsageError(f"no model is called '{name}': {nearest(name, (*makers.MAKERS, *gguf.NETWORKS))}")
    _print(makers.make(name, file or _fresh(f"{name}.onnx"), seed=seed), as_json=as_json)


def _fresh(name: str) -> Path:
    """A file of this folder that nobody has named, so that it may not replace one."""
    path = Path(name)
    if path.exists():
        raise UsageError(f"{path} exists already: remove it, or say another file with --out")
    return path


@app.command(epilog="Example: **melt model get hf:ORG/REPO/FILE.gguf@REVISION**")
def get(
    reference: Annotated[
        str, typer.Argument(help="hf:ORG/REPO/FILE@REVISION: a branch, a tag or a commit; main if not said.")
    ],
    file: Annotated[
        Path | None, typer.Option("--out", help="The file to write, in place of melt's cache.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a model from a hub, going on where a fetch was broken off; its commit and hash are noted beside it."""
    fetched = hub.get(hub.parse_reference(reference), say, out=file)
    if as_json:
        print_json({"path": str(fetched.path), **fetched.provenance.model_dump()})
        return
    out.print(f"{plain(fetched.path)}: {fetched.provenance.size_bytes} bytes", soft_wrap=True)
    _print_origin(fetched.provenance)
    out.print(f"  sha256 {fetched.provenance.sha256}", soft_wrap=True)


@app.command(epilog="Example: **melt model quantize m-f16.gguf --to q4_k**")
def quantize(
    file: Annotated[Path, typer.Argument(help="A GGUF file in f16, bf16 or f32.")],
    to: Annotated[str, typer.Option("--to", help=f"One of: {', '.join(FILE_TYPES)}.")],
    target: Annotated[
        Path | None, typer.Option("--out", help="The file to write, in place of one beside FILE.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a language model in another quantisation, with llama.cpp's own quantiser; labels stay as they are."""
    made = quantize_file(file, target or file.with_name(f"{file.stem}-{to}.gguf"), to, say=say)
    _print_language(made, as_json=as_json)


@app.command(epilog="Example: **melt model info m.onnx**")
def info(
    file: Annotated[Path, typer.Argument(help="An ONNX or GGUF file.")],
    as_json: AsJson = False,
) -> None:
    """Tell a model's inputs, outputs and multiply-adds, or a language model's mix and what a token reads."""
    model = gguf.info(file) if gguf.is_gguf(file) else makers.info(file)
    origin = hub.provenance(file)
    if origin is not None and origin.sha256 != model.sha256:
        say(f"{file} is no longer the file that was fetched from {origin.source}: its sha256 is another")
        origin = None
    if as_json:
        print_json({**model.model_dump(mode="json"), "hub": origin.model_dump() if origin else None})
        return
    if isinstance(model, gguf.GgufInfo):
        _print_language(model, as_json=False)
    else:
        _print(model, as_json=False)
    if origin is not None:
        _print_origin(origin)


def _print_origin(origin: hub.Provenance) -> None:
    out.print(f"  from {plain(origin.source)}, commit {origin.commit}", soft_wrap=True)


def _print(model: makers.ModelInfo, *, as_json: bool) -> None:
    if as_json:
        print_json(model.model_dump(mode="json"))
        return
    label = "synthetic: made by melt, its weights are random" if model.synthetic else "not made by melt"
    out.print(f"{plain(model.path)}: {model.size_bytes} bytes, {label}", soft_wrap=True)
    for kind, tensors in (("input", model.inputs), ("output", model.outputs)):
        for tensor in tensors:
            shape = " x ".join(map(str, tensor.shape))
            out.print(f"  {kind} {plain(tensor.name)}: {plain(tensor.dtype)} {plain(shape)}", soft_wrap=True)
    macs = f"{model.macs:,}" if model.macs is not None else f"not known: {plain(model.macs_reason)}"
    out.print(f"  parameters: {model.parameters:,}; multiply-adds: {macs}", soft_wrap=True)
    ops = ", ".join(f"{plain(op)} {count}" for op, count in sorted(model.ops.items()))
    out.print(f"  nodes: {model.nodes} ({ops}); opset {model.opset}; sha256 {model.sha256}", soft_wrap=True)


def _print_language(model: gguf.GgufInfo, *, as_json: bool) -> None:
    if as_json:
        print_json(model.model_dump(mode="json"))
        return
    label = "synthetic: made by melt, its weights are random" if model.synthetic else "not made by melt"
    out.print(f"{plain(model.path)}: {model.size_bytes} bytes, {label}", soft_wrap=True)
    out.print(f"  {plain(model.name)}, architecture {plain(model.architecture)}, {model.parameters:,} parameters")
    shape = {
        "layers": model.layers,
        "heads": model.heads,
        "of keys and values": model.kv_heads,
        "trained context": model.context_length,
        "vocabulary": model.vocabulary,
    }
    out.print("  " + ", ".join(f"{name} {value:,}" for name, value in shape.items() if value is not None))
    for kind, share in model.types.items():
        out.print(f"  {plain(kind)}: {share.tensors} tensors, {share.parameters:,} parameters, {share.bytes} bytes")
    for what, value, reason in (
        ("weights read for a token", model.weight_bytes_per_token, model.weight_bytes_per_token_reason),
        ("cache of a token in float16", model.kv_bytes_per_token, model.kv_bytes_per_token_reason),
    ):
        known = f"{value:,} bytes" if value is not None else f"not known: {plain(reason)}"
        out.print(f"  {what}: {known}", soft_wrap=True)
    out.print(f"  sha256 {model.sha256}")
