"""One SSH connection: its socket, its ciphers, and the watch that notices a peer which has gone silent."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

import paramiko
from paramiko.packet import Packetizer

from melt.errors import TransportError, TransportTimeout

if TYPE_CHECKING:
    from melt.transport.base import Deadline

SILENCE_S = 12.0
"""A peer that has said nothing for this long, asked or not, is gone."""
_ASK_S = 4.0
"""After this much silence the peer is asked for a sign of life."""
_TICK_S = 1.0

MAX_SESSIONS = 8
"""Commands at once on one connection: OpenSSH allows ten, and ending a command takes one more."""
_REFUSED_S = 5.0
_WINDOW_BYTES = 8 << 20

# What a person is told comes as melt's own errors; paramiko's log of the same would reach the terminal beside them.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class _Packets(Packetizer):
    """Counts what the peer sends, so that silence can be seen from outside; changes keys as seldom as OpenSSH."""

    # A channel that closes during a change of keys blocks paramiko until the connection is lost, and at its own limit
    # of 512 MiB that is every large file. OpenSSH changes them after 2^32 blocks of 16 bytes: so does this.
    REKEY_BYTES = 1 << 36
    REKEY_PACKETS = 1 << 31

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.heard = 0
        self._sock = sock
        self._ahead = bytearray()
        self._reads_ahead = False

    def set_inbound_cipher(self, *args: object, **kwargs: object) -> None:
        super().set_inbound_cipher(*args, **kwargs)  # type: ignore[arg-type]
        self._reads_ahead = True  # the greeting, which the base class reads in a buffer of its own, is long used up

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """As the base class's, with few large reads of the socket in place of two small ones for each packet."""
        if not self._reads_ahead:
            data = super().read_all(n, check_rekey)
            self.heard += 1
            return data
        ahead = self._ahead
        while len(ahead) < n:
            try:
                chunk = self._sock.recv(1 << 18)
            except TimeoutError:
                if self.closed:
                    raise EOFError from None
                if check_rekey and not ahead and self.need_rekey():
                    raise paramiko.packet.NeedRekeyException from None
                continue
            except OSError:
                if self.closed:
                    raise EOFError from None
                raise
            if not chunk:
                raise EOFError
            self.heard += 1
            ahead += chunk
        data = bytes(memoryview(ahead)[:n])
        del ahead[:n]
        return data


class Link:
    """A connection to one SSH server, at whatever stage; `below` is the jump host's that it runs through.

    A thread watches it from the first byte on: when the peer stays silent for `SILENCE_S`, asked for a sign of life
    once it has signed in, or has not signed in by `deadline`, the connection is cut and every blocked call ends.
    """

    def __init__(
        self, sock: socket.socket | paramiko.Channel, name: str, deadline: Deadline, below: Link | None
    ) -> None:
        self.name = name
        self.below = below
        self._sock = sock
        self.why = ""
        """Why it was ended by us, when that was not asked for; empty when the peer ended it, or nobody."""
        self._deadline: Deadline | None = deadline
        self._stop = threading.Event()
        self._ask = threading.Event()
        self._sessions = threading.BoundedSemaphore(MAX_SESSIONS)
        self.transport = paramiko.Transport(sock, packetizer_class=_Packets)
        self.transport.banner_timeout = self.transport.handshake_timeout = self.transport.auth_timeout = 60
        self.transport.get_security_options().ciphers = _ciphers()
        for work in (self._watch, self._keep_asking):
            threading.Thread(target=work, name=f"melt ssh {work.__name__} {name}", daemon=True).start()

    @property
    def alive(self) -> bool:
        return self.transport.is_active()

    def signed_in(self) -> None:
        """From here on silence alone ends the connection."""
        self._deadline = None

    def open_session(self, deadline: Deadline, *, urgent: bool = False) -> paramiko.Channel:
        """A channel for one command, to be given back with `give_back`; an urgent one does not wait for a place.

        Raises TransportTimeout, TransportError.
        """
        if not urgent and not self._sessions.acquire(timeout=deadline.left_s):
            raise TransportTimeout(f"{self.name}: {MAX_SESSIONS} commands are under way at once and none ended in time")
        try:
            return self._open(deadline)
        except BaseException:
            self.give_back(None, urgent=urgent)
            raise

    def give_back(self, channel: paramiko.Channel | None, *, urgent: bool = False) -> None:
        """Closes a session's channel and frees its place."""
        if channel is not None:
            _hang_up(channel)
        if not urgent:
            self._sessions.release()

    def _open(self, deadline: Deadline) -> paramiko.Channel:
        waited = threading.Event()
        tries = int(_REFUSED_S / 0.1)
        for attempt in range(tries):
            try:
                return self.transport.open_session(window_size=_WINDOW_BYTES, timeout=max(0.1, deadline.left_s))
            except (paramiko.SSHException, EOFError, OSError) as error:
                if not self.alive:
                    raise self.lost() from error
                if not deadline.left_s:
                    raise TransportTimeout(f"{self.name} did not open a session in time") from error
                # sshd may not have let go yet of a session that was closed here, or allows fewer
                if attempt == tries - 1:
                    raise TransportError(
                        f"{self.name} refuses one more command: look at MaxSessions in its sshd_config"
                    ) from error
                waited.wait(0.1)
        raise AssertionError

    def lost(self) -> TransportError:
        """The error for a connection that has ended, with what is known of the cause."""
        if self.below is not None and not self.below.alive:
            return self.below.lost()
        why = self.why or ("was let go of" if self._stop.is_set() else "closed the connection")
        return TransportError(f"{self.name} {why}: look at its power and the network, then try again")

    def cut(self, why: str = "") -> None:
        """Ends the connection at once, from any thread, whatever others are waiting for on it."""
        self.why = self.why or why
        self._stop.set()
        self._ask.set()
        # The socket first: a thread that is stuck in a send holds what `close` needs.
        if isinstance(self._sock, socket.socket):
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        else:
            # a message through the other connection, which may be stuck itself
            threading.Thread(target=_hang_up, args=(self._sock,), name="melt ssh close", daemon=True).start()
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self.transport.close()
        with contextlib.suppress(OSError):
            if isinstance(self._sock, socket.socket):
                self._sock.close()

    def close(self) -> None:
        """Lets go of the connection, and of the one it runs through."""
        self.cut()
        if self.transport.ident is not None:
            self.transport.join(_TICK_S)
        if self.below is not None:
            self.below.close()

    def _watch(self) -> None:
        heard, quiet_s = 0, 0.0
        packets = cast("_Packets", self.transport.packetizer)
        # Silence is counted in waits of our own, not by a clock: a host that was asleep itself has not heard a thing.
        while not self._stop.wait(_TICK_S):
            if packets.heard != heard:
                heard, quiet_s = packets.heard, 0.0
                continue
            quiet_s += _TICK_S
            if quiet_s >= SILENCE_S:
                self.cut(f"has been silent for {SILENCE_S:g} s")
            elif self._deadline is not None:
                if not self._deadline.left_s:
                    self.cut("did not let us sign in in time")
            elif quiet_s >= _ASK_S:
                self._ask.set()

    def _keep_asking(self) -> None:
        """In a thread of its own: the question itself gets stuck behind whatever else is stuck."""
        while self._ask.wait() and not self._stop.is_set():
            self._ask.clear()
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                self.transport.global_request("keepalive@openssh.com", wait=True)


def _hang_up(channel: paramiko.Channel) -> None:
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        channel.close()


def _ciphers() -> tuple[str, ...]:
    """The fastest first: GCM where this computer's processor has instructions for AES."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        fast = any(
            "aes" in line.split() for line in text.splitlines() if line.lower().startswith(("flags", "features"))
        )
    except OSError:
        fast = True  # no Linux: a Mac, whose processors all have them
    gcm = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
    ctr = ("aes128-ctr", "aes192-ctr", "aes256-ctr")
    return (*gcm, *ctr) if fast else (*ctr, *gcm)
