"""`melt model`: make a model, or look into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melt import makers
from melt.cli.console import out, plain, print_json
from melt.cli.options import AsJson

app = typer.Typer(no_args_is_help=True, help="Make models without a download, and look into them.")


@app.command(epilog="Example: **melt model make mobilenetv3-large --out m.onnx**")
def make(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(makers.MAKERS)}.")],
    file: Annotated[Path, typer.Option("--out", help="The file to write.", metavar="FILE")],
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives other weights.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Make a model with the published layer shapes and random weights; it is labelled synthetic everywhere."""
    _print(makers.make(name, file, seed=seed), as_json=as_json)


@app.command(epilog="Example: **melt model info m.onnx**")
def info(
    file: Annotated[Path, typer.Argument(help="An ONNX file.")],
    as_json: AsJson = False,
) -> None:
    """Tell a model's inputs, outputs, parameters and multiply-adds."""
    _print(makers.info(file), as_json=as_json)


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
