"""The programs of a board that melt asks: scripts for `sh` that print what the board keeps ready, or note a wish."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from melt.virtual.kinds import Kind

_HEAD = "#!/bin/sh\n# a virtual board's: it prints what the board's physics keeps in a file\nkept={kept}\n"
_PRINT = '[ -f "$kept/$file" ] && exec cat "$kept/$file"\n'

_VCGENCMD = 'file="vcgencmd.$1"\n' + _PRINT + "echo 'error=1 error_msg=\"Command not registered\"'\n"
_DUMPSYS = 'file="dumpsys.$1"\n' + _PRINT + 'echo "Can\'t find service: $1" >&2\nexit 20\n'
_GETPROP = """[ $# -eq 0 ] && exec cat "$kept/getprop"
while IFS= read -r line; do
  case "$line" in "[$1]: ["*) value=${line#"[$1]: ["}; printf '%s\\n' "${value%]}"; exit 0 ;; esac
done <"$kept/getprop"
echo
"""
_SETTINGS = """case "$2.$3" in *[!a-z0-9_.]*) echo "settings: bad name" >&2; exit 255 ;; esac
file="settings.$2.$3"
case "$1" in
  get) if [ -f "$kept/$file" ]; then cat "$kept/$file"; else echo null; fi ;;
  put) printf '%s\\n' "$4" >"$kept/$file" ;;
  delete) rm -f "$kept/$file"; echo "Deleted 1 rows" ;;
  *) echo "Invalid command: $1" >&2; exit 255 ;;
esac
"""
_SVC = """[ "$1 $2" = "power stayon" ] || { echo "svc: $1 $2: unknown" >&2; exit 255; }
printf '%s\\n' "$3" >"$kept/svc.power.stayon"
"""
_NVPMODEL = """case "$1" in
  -q|--query)
    read -r wanted <"$kept/nvpmodel.wanted"
    while read -r number name; do
      [ "$number" = "$wanted" ] && printf 'NV Power Mode: %s\\n%s\\n' "$name" "$number"
    done <"$kept/nvpmodel.modes"
    exit 0 ;;
  -m|--mode)
    grep -q "^$2 " "$kept/nvpmodel.modes" || { echo "NVPM ERROR: invalid mode $2" >&2; exit 1; }
    printf '%s\\n' "$2" >"$kept/nvpmodel.wanted" ;;
  *) echo "NVPM ERROR: unknown option" >&2; exit 1 ;;
esac
"""
_JETSON_CLOCKS = """file=jetson_clocks.wanted
case "$1" in
  --show) exec cat "$kept/jetson_clocks.show" ;;
  --store) cat "$kept/$file" >"${2:-$HOME/l4t_dfs.conf}" ;;
  --restore) cat "${2:-$HOME/l4t_dfs.conf}" >"$kept/$file"; sleep 0.5 ;;
  "") echo 1 >"$kept/$file"; sleep 0.5 ;;
  *) echo "Unknown option $1" >&2; exit 1 ;;
esac
"""
_OF = {
    "phone": {"dumpsys": _DUMPSYS, "getprop": _GETPROP, "settings": _SETTINGS, "svc": _SVC},
    "jetson": {"nvpmodel": _NVPMODEL, "jetson_clocks": _JETSON_CLOCKS},
    "pi": {"vcgencmd": _VCGENCMD},
    "pi4": {"vcgencmd": _VCGENCMD},
}


def write_stubs(kind: Kind, folder: Path, kept: Path) -> None:
    """Puts the programs of a kind of board into `folder`; they find what to print in `kept`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in _OF[kind.name].items():
        path = folder / name
        path.write_text(_HEAD.format(kept=shlex.quote(str(kept))) + body)
        path.chmod(0o755)
