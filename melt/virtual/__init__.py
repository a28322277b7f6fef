"""Devices that exist only as software on this computer: what they draw, how warm they get, and what their sensors say.

`physics` and `sensors` are pure: no file, no clock, no process; the truth that a measurement is held against is known
there. `board`, `tree` and `lab` put them behind a real agent, a real sshd and a real adbd. What measures imports
nothing of this package and cannot tell such a board from another one; only the command line starts it.
"""
