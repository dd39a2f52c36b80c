"""The accelerators: a name as people write it -> peaks, memory, power; close names for a wrong one.

Every peak is dense, in TFLOP/s. Vendors' headlines with sparsity are twice as large; no language
model is trained with it.
"""

import functools
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from llmctl.costs.tables import Row, number, rows
from llmctl.errors import ConfigError
from llmctl.registry import suggest

Precision = Literal["bf16", "fp16", "fp8", "fp4", "tf32", "fp32"]
PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16", "fp8", "fp4", "tf32", "fp32")

# A generic name means the variant that most published runs used.
GENERIC = {
    "a100": "A100-SXM-80GB",
    "h100": "H100-SXM-80GB",
    "h200": "H200-SXM-141GB",
    "h200nvl": "H200-SXM-141GB",
    "h800": "H800-SXM-80GB",
    "a800": "A800-SXM-80GB",
    "v100": "V100-SXM2-32GB",
    "b200": "B200-SXM",
    "b300": "B300-SXM",
    "a10": "A10G",
    "tpuv5": "TPUv5p",
    "tpuv6": "TPUv6e",
    "trillium": "TPUv6e",
    "ironwood": "TPUv7x",
    "mi250": "MI250X",
    "trn1": "Trainium1",
    "trn2": "Trainium2",
    "24gbclass": "RTX 4090",
    "48gbclass": "RTX A6000",
}
# Words that vendors and clouds add, and that tell no two rows of the table apart.
FILLERS = re.compile(
    r"nvidia|google|amd|intel|huawei|geforce|tesla|instinct|cloud|hbm\w*|gpu|[\W_]"
)
# What a chip without a measured matmul rate is taken to reach where its vendor has no other that
# was measured: A100 87 %, B200 78 %. AMD's three reach 51 to 63 %.
USUAL_CEILING = 0.83
# GB/s one way where none is listed: PCIe 4.0 with 100 Gb/s a card, or links as an A100's.
PLAIN_LINKS, FAST_LINKS = (32.0, 12.5), (300.0, 25.0)


class Accelerator(NamedTuple):
    """One chip as programs see it (a card, a superchip's GPU, a TPU chip).

    `memory` in GB, `bandwidth` in GB/s, `link` and `network` in GB/s one way between the chips of a
    machine and between machines (None where unknown), `tdp` and `wall` in W (`wall` is measured,
    host included), `peaks` dense in TFLOP/s, `matmul` the measured rate in bf16, `steady` the best
    published share of the peak that training reached, where one is known.
    """

    name: str
    vendor: str
    memory: float
    bandwidth: float
    link: float | None
    network: float | None
    tdp: float | None
    wall: float | None
    peaks: dict[Precision, float]
    matmul: float | None
    steady: float | None
    sparse_factor: float
    source: str
    steady_source: str
    wall_source: str
    is_generic: bool = False

    def precision(self, wanted: Precision) -> Precision:
        """The precision that training would use here where it is not `wanted`'s own peak."""
        fallbacks: dict[Precision, Sequence[Precision]] = {
            "fp4": ("fp4", "fp8", "bf16", "fp16"),
            "fp8": ("fp8", "bf16", "fp16"),
            "bf16": ("bf16", "fp16"),
            "fp16": ("fp16", "bf16"),
            "tf32": ("tf32", "fp32"),
            "fp32": ("fp32",),
        }
        for one in fallbacks[wanted]:
            if one in self.peaks:
                return one
        raise ConfigError(
            f"no peak of {self.name} in {wanted} is known",
            hint=f"known are: {', '.join(self.peaks)}",
        )

    def peak(self, precision: Precision) -> float:
        """Dense FLOP/s; ConfigError where the table has no such peak."""
        return self.peaks[self.precision(precision)] * 1e12

    @property
    def half_peak(self) -> float:
        """Dense FLOP/s in 16 bits, what efficiencies are compared by."""
        return self.peak("bf16")

    @property
    def ceiling(self) -> float:
        """The share of the 16-bit peak that a large matrix product reaches."""
        if self.matmul:
            return self.matmul * 1e12 / self.half_peak
        siblings = [
            one.ceiling
            for one in accelerators().values()
            if one.vendor == self.vendor and one.matmul
        ]
        return sum(siblings) / len(siblings) if siblings else USUAL_CEILING

    @property
    def links(self) -> tuple[float, float]:
        """Bytes a second one way: between the chips of a machine, and between machines."""
        usual = FAST_LINKS if self.has_fast_links else PLAIN_LINKS
        return (self.link or usual[0]) * 1e9, (self.network or usual[1]) * 1e9

    @property
    def has_fast_links(self) -> bool:
        """Whether chips of a node speak by more than PCIe."""
        is_card = self.name.startswith(("RTX", "L4", "A10G", "T4")) or "PCIe" in self.name
        return not is_card


@functools.cache
def accelerators() -> dict[str, Accelerator]:
    """Every row of the table by name."""
    return {row["name"]: _accelerator(row) for row in rows("accelerators")}


@functools.cache
def accelerator(name: str) -> Accelerator:
    """The accelerator that a name means; ConfigError, with the nearest names, for none.

    >>> accelerator("h100 sxm").name, accelerator("A100").is_generic
    ('H100-SXM-80GB', True)
    """
    known = accelerators()
    if "spars" in name.casefold():
        raise ConfigError(
            f"`{name}`: no language model is trained at a sparse peak",
            hint="leave the word out; all peaks here are dense, half of such headlines",
        )
    wanted = _plain(name)
    by_plain = {_plain(one): one for one in known}
    if wanted in by_plain:
        return known[by_plain[wanted]]
    if wanted in GENERIC:
        return known[GENERIC[wanted]]._replace(is_generic=True)
    # `A100 80GB`, `H100 SXM5` and `4090` leave out words of the table's name.
    words = _words(name)
    for said in (words, words[:1]):
        near = [one for plain, one in by_plain.items() if said and all(w in plain for w in said)]
        if near:
            is_sure = len(near) == 1 and said == words
            preferred = next((one for one in near if one in GENERIC.values()), near[0])
            return known[preferred]._replace(is_generic=not is_sure)
    raise ConfigError(f"unknown accelerator `{name}`", hint=suggest(name, known))


def _plain(name: str) -> str:
    return FILLERS.sub("", name.casefold())


def _words(name: str) -> list[str]:
    """The words that tell chips apart, that of the chip first; none where no chip is named."""
    spaced = re.sub(r"(sxm|pcie)\d*", r" \1 ", re.sub(r"[\W_]", " ", name.casefold()))
    words = [word for word in (_plain(one) for one in spaced.split()) if word]
    chips = [word for word in words if re.fullmatch(r"[a-z]{0,5}\d{2,4}[a-z]{0,2}", word)]
    chips = [word for word in chips if not word.endswith("gb")]
    return [*chips[:1], *(word for word in words if word != chips[0])] if chips else []


def _accelerator(row: Row) -> Accelerator:
    peaks: dict[Precision, float] = {}
    for one in PRECISIONS:
        if peak := number(row, one):
            peaks[one] = peak
    return Accelerator(
        name=row["name"],
        vendor=row["vendor"],
        memory=float(row["memory_gb"]),
        bandwidth=float(row["bandwidth_gbs"]),
        link=number(row, "link_gbs"),
        network=number(row, "network_gbs"),
        tdp=number(row, "tdp_w"),
        wall=number(row, "wall_w"),
        peaks=peaks,
        matmul=number(row, "matmul_bf16"),
        steady=number(row, "steady_mfu"),
        sparse_factor=float(row["sparse_factor"]),
        source=row["source"],
        steady_source=row["steady_source"],
        wall_source=row["wall_source"],
    )
