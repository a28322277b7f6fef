"""`melt devices`: what the lab file and the adb server know, whether it can be reached, and whose key is trusted."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import re
import shlex
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Annotated, Any, ParamSpec, TypeAlias, TypeVar

import typer
from rich.table import Table as RichTable

from melt.cli.console import err, out, plain, print_json, say
from melt.cli.options import AsJson, LabFile, lab_of, named, profile_for
from melt.device import open_device
from melt.errors import MeltError, UsageError
from melt.files import Lab, LabDevice
from melt.transport.adb import AdbTransport, Server
from melt.transport.adb_devices import Listed, advice

EXAMPLE = "Example: **melt devices --lab lab.yaml**"
_NONE_RUNS = "no adb server runs, so phones that no lab file names are not listed: `melt doctor adb://` starts one"
_SHOWN = 5
_NETWORK_PORT = 5555

Row: TypeAlias = dict[str, Any]
T = TypeVar("T")
P = ParamSpec("P")

app = typer.Typer(invoke_without_command=True)


@app.callback(epilog=EXAMPLE)
def devices(context: typer.Context, lab: LabFile = None, as_json: AsJson = False) -> None:
    """List the devices of the lab, and those that adb knows beside them: what each is, or what to do to use it."""
    if context.invoked_subcommand is not None:
        return
    known = lab_of(lab, context)
    rows, note = _look_at_all(known)
    if as_json:
        print_json(rows)
    else:
        _print(rows)
    if note:
        say(note)


@app.command(epilog="Example: **melt devices trust ssh://pi@raspberrypi.lan**")
def trust(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="A device of the lab, or an ssh:// address.", metavar="DEVICE")],
    lab: LabFile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the fingerprint has been compared.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the key of a device's SSH server, ask whether it is the right one, and note it as known.

    A device whose key has changed is refused: the line that has the old one is removed by a person, or stays.
    """
    outer = context.parent.params if context.parent else {}
    _, name, spec = named(device, lab or outer.get("lab"))
    told = _trusted(name, spec.address, yes=yes)
    if as_json or outer.get("as_json"):
        print_json(told)
    else:
        was = "was trusted already" if told["was_trusted"] else "is trusted from now on"
        where = f" ({told['known_hosts']})"
        out.print(plain(f"{name} {was}: {told['key_type']} {told['fingerprint']}{where}"), soft_wrap=True)


def _trusted(name: str, address: str, *, yes: bool) -> dict[str, Any]:
    """Sees to it that a server's key is known. Raises UsageError, TransportError, typer.Exit when a person says no."""
    scheme = address.partition(":")[0]
    if scheme != "ssh":
        instead = "nothing is to be trusted there" if scheme == "local" else "accept this computer on its screen"
        raise UsageError(f"{name} is reached by {scheme}:, and `melt devices trust` is for ssh:// only; {instead}")
    try:
        from melt.transport.ssh_config import Own  # noqa: PLC0415 - an optional extra
        from melt.transport.ssh_hosts import HostUnknown, check_host  # noqa: PLC0415
        from melt.transport.ssh_hosts import trust as write_down  # noqa: PLC0415
        from melt.transport.ssh_login import show_key  # noqa: PLC0415
    except ImportError:
        raise UsageError(f"{address} is reached with the package paramiko: pip install 'melt[ssh]'") from None
    place, key = show_key(address, Own())
    file = place.known_hosts[0]
    told = {"device": name, "address": address, "known_as": place.known_as, "known_hosts": str(file)}
    told |= {"key_type": key.kind, "fingerprint": key.fingerprint}
    with contextlib.suppress(HostUnknown):
        check_host(key, place.known_as, place.known_hosts, name, address)
        return {**told, "was_trusted": True}
    kind = "rsa" if key.kind == "ssh-rsa" else "ecdsa" if key.kind.startswith("ecdsa") else "ed25519"
    say(f"{name} ({place.shown}) shows the key {key.kind} {key.fingerprint}")
    say("compare it with what the device says of itself, on its own screen or over a way that you trust:")
    say(f"  ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub")
    say(f"if you accept it, {file} is to hold it for {place.known_as}")
    if not yes:
        if not sys.stdin.isatty():
            again = f"melt devices trust {shlex.quote(address)} --yes"
            raise UsageError(f"{name}: without a terminal nobody can be asked: compare the two, then `{again}`")
        if not typer.confirm("Is it the same key?", default=False, err=True):
            say(f"{name} is not trusted: nothing was written")
            raise typer.Exit(1)
    write_down(place.known_as, key, file)
    try:
        check_host(key, place.known_as, place.known_hosts, name, address)
    except HostUnknown:
        raise UsageError(f"{file} keeps nothing: name another UserKnownHostsFile in ~/.ssh/config") from None
    return {**told, "was_trusted": False}


def _look_at_all(lab: Lab) -> tuple[list[Row], str | None]:
    """A row for every device, each looked at in a thread of its own; and why adb's are not among them."""
    over_adb = any(_is_adb(spec) for spec in lab.devices.values())
    started = _begin(_start_server if over_adb else lambda: None)
    looks = {name: _begin(_look, name, spec, lab, started) for name, spec in lab.devices.items()}
    others = _begin(_look_at_others, lab, started)
    _wait({**looks, "what adb knows": others})
    found, note = others.result()
    return [*(look.result() for look in looks.values()), *found], note


def _look(name: str, spec: LabDevice, lab: Lab, started: Future[None]) -> Row:
    row = _row("lab", device=name, profile=spec.profile, address=spec.address, simulated=spec.simulated)
    if _is_adb(spec):
        concurrent.futures.wait([started])
    try:
        with open_device(name, spec, lab.profile(spec), say) as device:
            row |= {"ready": True, "machine": device.machine, "soc": device.fact("soc"), "os": device.fact("os")}
    except MeltError as error:
        row["problem"] = str(error)
    return row


def _look_at_others(lab: Lab, started: Future[None]) -> tuple[list[Row], str | None]:
    """What the adb server knows and the lab does not name."""
    concurrent.futures.wait([started])
    try:
        server = Server.of_this_computer()
        known = server.listed()
    except ConnectionRefusedError:
        return [], _NONE_RUNS
    except MeltError as error:
        return [], f"what adb knows is not listed: {error}"
    in_lab = _serials(lab)
    usable = [one.serial for one in known if one.usable]
    if "" in in_lab and len(usable) == 1:  # adb:// is the only one there is
        in_lab.add(usable[0])
    others = [one for one in known if one.serial not in in_lab]
    looks = [_begin(_look_at_other, one, server) for one in others]
    rows = [look.result() for look in looks]
    taken = set(lab.devices)
    for row, one in zip(rows, others, strict=True):
        if one.address is not None:
            name = _free_name(one.model or one.product or "device", taken)
            taken.add(name)
            row["lab_line"] = _lab_line(name, one.address, profile_for(one.address, lab))
    return rows, None


def _look_at_other(one: Listed, server: Server) -> Row:
    adb = {"serial": one.serial, "state": one.state, "product": one.product, "model": one.model}
    row = _row("adb", address=one.address, adb=adb)
    if not one.usable:
        told = advice(one.state) or f"cannot be used, and adb says only '{one.state}': unplug it and plug it in again"
        return row | {"problem": f"device {one.serial} {told}"}
    try:
        AdbTransport.connect(f"adb://{one.serial}", server).close()
    except MeltError as error:
        return row | {"problem": str(error)}
    return row | {"ready": True}


def _serials(lab: Lab) -> set[str]:
    """What the adb server calls those devices of the lab that it may know."""
    split = [spec.address.partition(":") for spec in lab.devices.values()]
    found = {rest.removeprefix("//") for scheme, _, rest in split if scheme in ("adb", "adb+tcp")}
    return found | {f"{serial}:{_NETWORK_PORT}" for serial in found}


def _row(known_from: str, **values: Any) -> Row:
    """A device as `--json` prints it: every key in every row, null for what is not known."""
    keys = ("device", "profile", "address", "problem", "machine", "soc", "os", "adb", "lab_line")
    return {"known_from": known_from, "ready": False, "simulated": False, **dict.fromkeys(keys), **values}


def _lab_line(name: str, address: str, profile: str) -> str:
    """A line for `devices:` in a lab file."""
    return f"{name}: {{profile: {profile}, address: {json.dumps(address)}}}"


def _free_name(words: str, taken: Collection[str]) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", words.lower())[:40].strip("-") or "device"
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def _is_adb(spec: LabDevice) -> bool:
    """Whether it is the adb server that reaches it."""
    return spec.address.startswith("adb:")


def _start_server() -> None:
    """Once for all devices: servers that are started at the same time stand in each other's way."""
    with contextlib.suppress(MeltError, ConnectionRefusedError):  # each device's own look tells what is wrong
        Server.of_this_computer().begin()


def _begin(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Work in a thread that nobody waits for after Ctrl-C."""
    future: Future[T] = Future()

    def carry_out() -> None:
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=carry_out, name="melt look", daemon=True).start()
    return future


def _wait(looks: Mapping[str, Future[Any]]) -> None:
    """Until all are done; on a terminal with a line that names those that are not."""
    if not err.is_terminal:
        concurrent.futures.wait(looks.values())
        return
    with err.status("") as status:
        while waiting := [name for name, look in looks.items() if not look.done()]:
            more = f" and {len(waiting) - _SHOWN} more" if len(waiting) > _SHOWN else ""
            status.update(f"looking at {', '.join(map(plain, waiting[:_SHOWN]))}{more}")
            concurrent.futures.wait([looks[n] for n in waiting], return_when=concurrent.futures.FIRST_COMPLETED)


def _print(rows: list[Row]) -> None:
    """A table that fits, and below it in whole lines what a person has to read or copy."""
    table = RichTable()
    for heading in ("device", "profile", "address", "state", "what it is"):
        table.add_column(heading, no_wrap=heading == "state", overflow="fold")
    for row in rows:
        adb = row["adb"]
        told = adb["model"] or adb["product"] if adb else row["soc"] or row["machine"]
        what = ", ".join(filter(None, (told, row["os"]))) or "–"
        name = f"{row['device']} (simulated)" if row["simulated"] else row["device"]
        words = (name or "(not in the lab)", row["profile"] or "–", row["address"] or "–")
        table.add_row(*map(plain, words), "ready" if row["ready"] else "not ready", plain(what))
    out.print(table)
    for row in rows:
        if row["problem"]:
            name = f"{row['device']}: " if row["device"] else ""
            out.print(plain(f"{name}{row['problem']}"), soft_wrap=True)
    lines = [row["lab_line"] for row in rows if row["lab_line"]]
    if lines:
        out.print("To name what is not in the lab, below 'devices:' in a lab file:")
    for line in lines:
        out.print(f"  {plain(line)}", soft_wrap=True)
