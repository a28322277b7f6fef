"""The boards that there are: what each is made of, and how each of its sensors of power behaves.

The figures are of the size that such boards have, and of no board in particular: they are made up, so that what
measures them can be held against a truth that is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from melt.virtual.physics import Battery, Heat, Model, Node, PowerModel, Rail, Throttle, Trip
from melt.virtual.sensors import SensorModel

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Cores:
    """A cluster: which part of this computer's processors it is given, and the clocks it can have (kHz, rising)."""

    core: str
    part: float
    clocks_khz: tuple[int, ...]


@dataclass(frozen=True)
class Sensed:
    """A sensor of power or energy: the rails whose sum it sees, and how."""

    rails: tuple[str, ...]
    model: SensorModel
    volts: float = 1.0
    """Of the supply, where the sensor tells a voltage and a current."""


@dataclass(frozen=True)
class Kind:
    """One kind of virtual board."""

    name: str
    title: str
    profile: str
    link: Literal["ssh", "adb"]
    rails: tuple[Rail, ...]
    heat: Heat
    throttle: Throttle
    cores: tuple[Cores, ...]
    zones: Mapping[str, int]
    """The thermal zones by type, each with the node of `heat` that it shows."""
    sensed: Mapping[str, Sensed]
    battery: Battery | None = None
    unreadable: tuple[str, ...] = ()
    """Thermal zones that hang whoever reads them."""

    def model(self, cpus: int, ambient_c: float) -> Model:
        """Its physics, on a computer with so many processors."""
        power = PowerModel(self.rails, cpus, leakage_per_c=0.002, noise=0.01)
        return Model(power, Heat(self.heat.nodes, ambient_c), self.throttle, self.battery)

    @property
    def idle_w(self) -> float:
        return sum(rail.idle_w for rail in self.rails)


def _every(rails: tuple[Rail, ...]) -> tuple[str, ...]:
    return tuple(rail.name for rail in rails)


_PHONE_RAILS = (
    Rail("S4M_VDD_CPUCL0", 0.030, 0.60),
    Rail("S3M_VDD_CPUCL1", 0.020, 1.20),
    Rail("S2M_VDD_CPUCL2", 0.015, 1.90),
    Rail("S1M_VDD_MIF", 0.080, 0.45),
    Rail("S2S_VDD_G3D", 0.010, 0.00),
    Rail("S10M_VDD_TPU", 0.005, 0.00),
    Rail("REST", 0.420, 0.25),
)
PHONE = Kind(
    name="phone",
    title="Pixel 8 (virtual)",
    profile="virtual-phone",
    link="adb",
    rails=_PHONE_RAILS,
    heat=Heat((Node("die", 5.0, 0.0, 0.35), Node("skin", 90.0, 0.13))),
    throttle=Throttle((Trip(70.0, 0.85), Trip(80.0, 0.65), Trip(90.0, 0.45))),
    cores=(
        Cores("Cortex-A510", 0.5, (324_000, 610_000, 910_000, 1_221_000, 1_704_000)),
        Cores("Cortex-A715", 0.5, (402_000, 800_000, 1_295_000, 1_836_000, 2_367_000)),
    ),
    zones={"BIG": 0, "MID": 0, "LITTLE": 0, "battery": 1, "quiet_therm": 1},
    # a rail's counter is behind a converter of its own; the gauge sees everything once a second
    sensed={
        **{
            name: Sensed((name,), SensorModel(refresh_s=0.125, counts=True, quantum=1e-6))
            for name in _every(_PHONE_RAILS[:-1])
        },
        "battery": Sensed(_every(_PHONE_RAILS), SensorModel(refresh_s=1.0, noise=0.003, seed=1)),
    },
    battery=Battery(capacity_coulomb=4575 * 3.6),
)

_JETSON_RAILS = (
    Rail("VDD_CPU_GPU_CV", 0.55, 5.2),
    Rail("VDD_SOC", 1.25, 1.3),
    Rail("REST", 2.40, 0.6),
)
JETSON = Kind(
    name="jetson",
    title="NVIDIA Jetson Orin Nano Developer Kit (virtual)",
    profile="virtual-jetson",
    link="ssh",
    rails=_JETSON_RAILS,
    heat=Heat((Node("die", 12.0, 0.0, 1.2), Node("sink", 120.0, 0.45))),
    throttle=Throttle((Trip(97.0, 0.8), Trip(99.0, 0.6), Trip(101.0, 0.4))),
    cores=(Cores("Cortex-A78AE", 1.0, (115_200, 422_400, 729_600, 1_036_800, 1_344_000, 1_510_400)),),
    zones={"cpu-thermal": 0, "gpu-thermal": 0, "cv0-thermal": 0, "soc0-thermal": 0, "tj-thermal": 0},
    unreadable=("cv0-thermal",),
    sensed={
        "VDD_IN": Sensed(_every(_JETSON_RAILS), SensorModel(noise=0.01, seed=11), 5.0),
        "VDD_CPU_GPU_CV": Sensed(("VDD_CPU_GPU_CV",), SensorModel(noise=0.01, seed=12), 5.0),
        "VDD_SOC": Sensed(("VDD_SOC",), SensorModel(noise=0.01, seed=13), 5.0),
    },
)

_PI_HEAT = Heat((Node("die", 8.0, 0.0, 0.6), Node("board", 60.0, 0.25)))
_PI_THROTTLE = Throttle((Trip(80.0, 0.8, 2.0), Trip(85.0, 0.6, 2.0)))
_PMIC: Mapping[str, tuple[float, Rail]] = {
    "3V7_WL_SW": (3.70, Rail("3V7_WL_SW", 0.220, 0.00)),
    "3V3_SYS": (3.31, Rail("3V3_SYS", 0.230, 0.02)),
    "1V8_SYS": (1.80, Rail("1V8_SYS", 0.310, 0.03)),
    "DDR_VDD2": (1.10, Rail("DDR_VDD2", 0.020, 0.28)),
    "DDR_VDDQ": (0.61, Rail("DDR_VDDQ", 0.010, 0.12)),
    "1V1_SYS": (1.10, Rail("1V1_SYS", 0.190, 0.03)),
    "0V8_SW": (0.80, Rail("0V8_SW", 0.270, 0.05)),
    "VDD_CORE": (0.88, Rail("VDD_CORE", 0.900, 4.60)),
    "3V3_DAC": (3.31, Rail("3V3_DAC", 0.001, 0.00)),
    "3V3_ADC": (3.31, Rail("3V3_ADC", 0.001, 0.00)),
    "0V8_AON": (0.80, Rail("0V8_AON", 0.004, 0.00)),
    "HDMI": (5.10, Rail("HDMI", 0.070, 0.00)),
}
PI = Kind(
    name="pi",
    title="Raspberry Pi 5 Model B Rev 1.0 (virtual)",
    profile="virtual-pi-5",
    link="ssh",
    rails=tuple(rail for _, rail in _PMIC.values()),
    heat=_PI_HEAT,
    throttle=_PI_THROTTLE,
    cores=(Cores("Cortex-A76", 1.0, (1_500_000, 1_600_000, 1_800_000, 2_000_000, 2_200_000, 2_400_000)),),
    zones={"cpu-thermal": 0},
    sensed={
        name: Sensed((name,), SensorModel(refresh_s=0.2, averages=False, noise=0.001, seed=20 + i), volts)
        for i, (name, (volts, _)) in enumerate(_PMIC.items())
    },
)
PI4 = Kind(
    name="pi4",
    title="Raspberry Pi 4 Model B Rev 1.4 (virtual)",
    profile="virtual-pi-4",
    link="ssh",
    rails=(Rail("BOARD", 2.7, 3.6),),
    heat=_PI_HEAT,
    throttle=_PI_THROTTLE,
    cores=(Cores("Cortex-A72", 1.0, (600_000, 800_000, 1_000_000, 1_200_000, 1_500_000)),),
    zones={"cpu-thermal": 0},
    sensed={},
)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (PHONE, JETSON, PI, PI4)}
"""Every kind by the name of its device."""
