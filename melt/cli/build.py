"""`melt build`: the native programs for a device, compiled ahead; and llama.cpp as a device or a phone needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from melt import native
from melt.cli.console import out, plain, print_json, say
from melt.cli.options import AsJson, LabFile, named
from melt.device import machine_of, open_device
from melt.device.building import build_llama_on
from melt.errors import UsageError, nearest
from melt.files import Profile, load_lab, load_profile
from melt.native.host import cpu_flags
from melt.native.ndk import build_with_ndk

EXAMPLE = "Example: **melt build --for local** or **melt build --machine aarch64**"
_OWN = "llama.cpp"

app = typer.Typer(invoke_without_command=True)


@app.callback(epilog=EXAMPLE)
def build(
    context: typer.Context,
    device: Annotated[str | None, typer.Option("--for", help="The device to build for.", metavar="DEVICE")] = None,
    machine: Annotated[str | None, typer.Option("--machine", help="Or its processor: x86_64 or aarch64.")] = None,
    lab: LabFile = None,
    as_json: AsJson = False,
) -> None:
    """Compile what runs on a device: it happens by itself when first needed, and is kept."""
    if context.invoked_subcommand is not None:
        return
    if (device is None) == (machine is None):
        raise UsageError("say either --for DEVICE or --machine x86_64 or aarch64, or what: melt build llama.cpp")
    here = False
    if device is not None:
        spec = load_lab(lab).device(device)
        machine, here = machine_of(device, spec), spec.address.startswith("local:")
    rows = []
    for program in native.PROGRAMS.values():
        path = native.build(program.name, machine or "", here=here, say=say)
        rows.append({"program": program.name, "machine": machine, "path": str(path), "bytes": path.stat().st_size})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        out.print(f"{row['program']} for {row['machine']}: {plain(row['path'])}, {row['bytes']} bytes", soft_wrap=True)


@app.command(
    _OWN,
    epilog="Example: **melt build llama.cpp**, **melt build llama.cpp --profile raspberry-pi-5** or "
    "**melt build llama.cpp --on local --cmake-arg=-DGGML_NATIVE=ON**",
)
def llama_cpp(
    context: typer.Context,
    profile: Annotated[str | None, typer.Option("--profile", help="For the processor that this profile tells.")] = None,
    machine: Annotated[str | None, typer.Option("--machine", help="For x86_64 or aarch64, every level of it.")] = None,
    level: Annotated[str | None, typer.Option("--level", help="For this level of processor.")] = None,
    on: Annotated[
        str | None,
        typer.Option("--on", help="Push the source there and build with the device's own cmake.", metavar="DEVICE"),
    ] = None,
    ndk: Annotated[
        Path | None,
        typer.Option(
            "--ndk", help="With the Android NDK at this path, against bionic (unproven: no phone has run it)."
        ),
    ] = None,
    cmake_arg: Annotated[
        list[str] | None,
        typer.Option("--cmake-arg", help="With --on or --ndk: -DNAME=VALUE for cmake; as often as needed."),
    ] = None,
    lab: LabFile = None,
    as_json: AsJson = False,
) -> None:
    """Compile the language-model runner: for this computer, another processor, on a device, or for Android."""
    outer = context.parent.params if context.parent else {}
    as_json, lab = as_json or bool(outer.get("as_json")), lab or outer.get("lab")
    machine = machine or outer.get("machine")
    if outer.get("device"):
        raise UsageError("--for is for melt's other programs: say --on DEVICE, --profile or --level to build llama.cpp")
    if sum(choice is not None for choice in (profile, machine or level, on)) > 1:
        raise UsageError("say one of --profile, --machine or --level, and --on")
    if ndk and on:
        raise UsageError("say one of --ndk, which builds here, and --on, which builds on the device")
    if cmake_arg and not (on or ndk):
        raise UsageError("--cmake-arg needs --on or --ndk: what melt delivers by itself is the same everywhere")
    if on:
        rows = [_on(on, lab, cmake_arg or [])]
    else:
        rows = [_here(one, ndk, cmake_arg or []) for one in _levels(profile, machine, level, lab, android=bool(ndk))]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        out.print(f"{plain(row['for'])}: {plain(row['path'])}", soft_wrap=True)
    if on:
        out.print("melt runs it where the device's profile says:", soft_wrap=True)
        out.print(f"engines: {{{_OWN}: {{library: {plain(rows[0]['path'])}}}}}", soft_wrap=True)
    elif ndk:
        out.print(
            f"unproven: no phone has run such a build. Push it, then name it in the phone's profile as "
            f"engines.{_OWN}.library",
            soft_wrap=True,
        )


def _levels(
    profile: str | None, machine: str | None, level: str | None, lab: Path | None, *, android: bool
) -> tuple[native.Level, ...]:
    """The levels that are asked for. Raises UsageError, Unsupported."""
    if level:
        found = native.named_level(level)
        if machine and found not in native.levels(machine):
            raise UsageError(f"{level} is a level of {found.machine}, not of {machine}")
        return (found,)
    if machine:
        return native.levels(machine)
    if profile:
        return (_level_of(load_profile(profile, load_lab(lab).profiles)),)
    if android:
        return native.levels("aarch64")[:1]
    return (native.choose_level(native.host_machine(), cpu_flags(Path("/proc/cpuinfo"))),)


def _level_of(profile: Profile) -> native.Level:
    if profile.cpu is None:
        raise UsageError(
            f"profile '{profile.name}' does not tell its processor: write 'cpu: LEVEL' into it, or say --level "
            f"({nearest('', (known.name for known in native.LEVELS))})"
        )
    return native.named_level(profile.cpu)


def _here(level: native.Level, ndk: Path | None, arguments: list[str]) -> dict[str, Any]:
    path = build_with_ndk(ndk, level, arguments, say) if ndk else native.build_llama_runner(level, say=say)
    target = f"{level.name}, Android" if ndk else level.name
    return {"for": target, "level": level.name, "path": str(path), "bytes": path.stat().st_size}


def _on(name: str, lab: Path | None, arguments: list[str]) -> dict[str, Any]:
    known, device, spec = named(name, lab)
    with open_device(device, spec, known.profile(spec), say) as opened:
        built = build_llama_on(opened, arguments, say)
    return {"for": device, "level": "native", "path": built.path, "says": built.says}
