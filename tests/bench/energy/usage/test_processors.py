"""Watts of a core from the names of processors, as /proc/cpuinfo has them."""

from __future__ import annotations

import pytest
from greenprune.bench.energy.usage import processors
from greenprune.bench.energy.usage.processors import codecarbon_tdp_table, core_power, cpu_model, find_tdp_w, turbo_w

TABLE = [("Intel Core i7-8700K", 95.0), ("AMD EPYC 7763", 280.0), ("Twice 1", 10.0), ("twice 1", 20.0)]
WHOLE = codecarbon_tdp_table()

NAMES = [
    # Desktops
    ("12th Gen Intel(R) Core(TM) i7-12700K", 190),
    ("13th Gen Intel(R) Core(TM) i9-13900K", 125),
    ("11th Gen Intel(R) Core(TM) i7-11700K @ 3.60GHz", 125),
    ("Intel(R) Core(TM) i9-10900X CPU @ 3.70GHz", 165),
    ("Intel(R) Core(TM) i9-9900K CPU @ 3.60GHz", 95),
    ("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz", 95),
    ("Intel(R) Core(TM) i7 CPU         860  @ 2.80GHz", 95),
    ("Intel(R) Core(TM)2 Duo CPU     E8400  @ 3.00GHz", 65),
    ("Intel(R) Core(TM) Ultra 9 285K", 125),
    ("AMD Ryzen 9 5950X 16-Core Processor", 105),
    ("AMD Ryzen 9 7950X 16-Core Processor", 170),
    ("AMD Ryzen 7 5800X3D 8-Core Processor", 105),
    ("AMD Ryzen 7 9700X 8-Core Processor", 65),
    ("AMD Ryzen 5 3600 6-Core Processor", 65),
    ("AMD Ryzen 3 2200G with Radeon Vega Graphics", 65),
    ("AMD FX(tm)-8350 Eight-Core Processor", 125),
    ("AMD A10-5800K APU with Radeon(tm) HD Graphics", 100),
    ("AMD Athlon(tm) II X4 640 Processor", 95),
    ("AMD Ryzen Threadripper PRO 3995WX 64-Cores", 280),
    ("AMD Ryzen Threadripper 3970X 32-Core Processor", 280),
    ("AMD Ryzen Threadripper PRO 7995WX 96-Cores", 350),
    # Laptops and small ones
    ("11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz", 28),
    ("12th Gen Intel(R) Core(TM) i7-12700H", 45),
    ("13th Gen Intel(R) Core(TM) i7-1360P", 28),
    ("Intel(R) Core(TM) i9-14900HX", 55),
    ("Intel(R) Core(TM) Ultra 7 155H", 28),
    ("Intel(R) Core(TM) i7-8565U CPU @ 1.80GHz", 15),
    ("Intel(R) N100", 6),
    ("Intel(R) Celeron(R) J4125 CPU @ 2.00GHz", 10),
    ("AMD Ryzen 7 5800H with Radeon Graphics", 45),
    ("AMD Ryzen 7 PRO 4750U with Radeon Graphics", 15),
    ("AMD Ryzen 7 7840U w/ Radeon  780M Graphics", 28),
    ("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", 28),
    # Servers
    ("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", 145),
    ("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", 205),
    ("INTEL(R) XEON(R) GOLD 6548Y+", 250),
    ("Intel(R) Xeon(R) Silver 4210R CPU @ 2.40GHz", 100),
    ("Intel(R) Xeon(R) W-2295 CPU @ 3.00GHz", 165),
    ("Intel(R) Xeon(R) Platinum 8480+", 350),
    ("Intel(R) Xeon(R) 6980P", 500),
    ("AMD EPYC 7763 64-Core Processor", 280),
    ("AMD EPYC 9654 96-Core Processor", 360),
    ("AMD Opteron(tm) Processor 6274", 115),
    ("Intel(R) Xeon(R) CPU E5-2690 0 @ 2.90GHz", 135),
    ("Intel(R) Xeon(R) CPU E3-1230 V2 @ 3.30GHz", 69),
    # Clouds' own
    ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", 210),
    ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", 300),
    ("AMD EPYC 7R13 Processor", 225),
    # Arm and Apple
    ("Cortex-A72", 7.5),
    ("Apple M1", 10),
    ("Apple M2 Ultra", 105),
    # Families and machines that nobody made
    ("AMD EPYC", None),
    ("AMD EPYC-Milan Processor", None),
    ("Intel Xeon Processor (Skylake, IBRS)", None),
    ("Intel(R) Xeon(R) Processor", None),
    ("QEMU Virtual CPU version 2.5+", None),
    ("Common KVM processor", None),
]


@pytest.mark.parametrize(("model", "tdp_w"), NAMES)
def test_a_name_as_linux_has_it_is_found_in_codecarbons_table(model: str, tdp_w: float | None) -> None:
    assert find_tdp_w(model, WHOLE) == tdp_w


@pytest.mark.parametrize(
    ("model", "tdp_w"),
    [
        ("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz", 95),
        ("AMD EPYC 7763 64-Core Processor", 280),
        ("AMD EPYC 7762 64-Core Processor", None),
        ("Twice 1", None),
        ("", None),
    ],
)
def test_tdp_is_taken_only_for_a_processor_of_the_same_words(model: str, tdp_w: float | None) -> None:
    assert find_tdp_w(model, TABLE) == tdp_w


@pytest.mark.parametrize(
    ("model", "cores", "power_w"),
    [
        ("12th Gen Intel(R) Core(TM) i7-12700K", 12, 190 / 12),
        ("AMD EPYC 7B13", 64, 280 / 64),
        ("Intel(R) Xeon(R) Platinum 8480C", 56, 350 / 56),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", 56, 350 / 56),
        ("AMD EPYC 9R14", 96, 360 / 96),
        ("AMD EPYC 7571", 32, 180 / 32),
        ("Intel(R) Xeon(R) w5-2455X", 12, 200 / 12),
        ("Neoverse-N1", 64, 210 / 80),
        ("Neoverse-V2", 72, 500 / 144),
        ("13th Gen Intel(R) Core(TM) i7-13700", 16, 65 / 16),  # not in the table, its suffix says so much
        ("Intel(R) Core(TM) i9-14900K", 24, 125 / 24),
        ("12th Gen Intel(R) Core(TM) i5-1240P", 12, 28 / 12),
    ],
)
def test_watts_of_a_core(model: str, cores: int, power_w: float) -> None:
    power = core_power(model, cores, virtual=False, table=WHOLE)
    assert power.power_w == pytest.approx(power_w)
    assert power.low_w == pytest.approx(power_w / 2)
    assert power.high_w >= 2 * power_w
    assert "default" not in power.origin


# What the makers publish as the most a package draws, in W.
@pytest.mark.parametrize(
    ("model", "tdp_w", "cores", "most_w"),
    [
        ("12th Gen Intel(R) Core(TM) i7-12700K", 190, 12, 190),
        ("12th Gen Intel(R) Core(TM) i9-12900K", 125, 16, 241),
        ("13th Gen Intel(R) Core(TM) i9-13900K", 125, 24, 253),
        ("13th Gen Intel(R) Core(TM) i9-13900", 65, 24, 219),
        ("13th Gen Intel(R) Core(TM) i9-13900T", 35, 24, 106),
        ("Intel(R) Core(TM) i9-14900KS", 150, 24, 253),
        ("12th Gen Intel(R) Core(TM) i7-12700H", 45, 14, 115),
        ("13th Gen Intel(R) Core(TM) i7-1355U", 15, 10, 55),
        ("Intel(R) Core(TM) Ultra 7 155H", 28, 16, 115),
        ("Intel(R) Core(TM) i9-10900K CPU @ 3.70GHz", 125, 10, 250),
        ("AMD Ryzen 9 7950X 16-Core Processor", 170, 16, 230),
        ("AMD Ryzen 9 5950X 16-Core Processor", 105, 16, 142),
        ("AMD Ryzen 7 7840U w/ Radeon  780M Graphics", 28, 8, 54),
        ("Intel(R) Xeon(R) Platinum 8480+", 350, 56, 420),
    ],
)
def test_the_upper_bound_holds_the_turbo_power(model: str, tdp_w: float, cores: int, most_w: float) -> None:
    assert turbo_w(model, tdp_w) >= 0.99 * most_w
    power = core_power(model, cores, virtual=False, table=[(model, tdp_w)])
    assert power.high_w * cores >= most_w


@pytest.mark.parametrize(
    ("model", "virtual"), [("Unheard Of 1", False), ("AMD EPYC 7763 64-Core Processor", True), ("Neoverse-V1", False)]
)
def test_an_unknown_or_virtual_processor_takes_the_default(model: str, virtual: bool) -> None:
    power = core_power(model, 4, virtual=virtual, table=WHOLE)
    assert (power.low_w, power.power_w, power.high_w) == ((2, 6, 15) if virtual else (0.5, 6, 40))
    assert "default" in power.origin
    assert model in power.origin


@pytest.mark.parametrize(
    ("implementer", "part", "name"),
    [("0x41", "0xd0c", "Neoverse-N1"), ("0x41", "0xd40", "Neoverse-V1"), ("0x41", "0xd4f", "Neoverse-V2"),
     ("0x61", "0x023", "Apple M1"), ("0x41", "0xd08", "Cortex-A72"), ("0x99", "0x001", "Arm implementer 0x99 part 0x001")],
)  # fmt: skip
def test_arm_cores_have_their_names(implementer: str, part: str, name: str) -> None:
    info = f"processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: {implementer}\nCPU part\t: {part}\n"
    assert cpu_model(info) == (name, False, 1)


def test_sockets_and_virtual_machines_are_told() -> None:
    info = "".join(
        f"processor\t: {i}\nmodel name\t: AMD EPYC 7763 64-Core Processor\nphysical id\t: {i}\nflags\t\t: fpu hypervisor\n\n"
        for i in range(2)
    )
    assert cpu_model(info) == ("AMD EPYC 7763 64-Core Processor", True, 2)


def test_every_sibling_is_in_the_table_and_no_processor_that_has_one() -> None:
    for own, sibling in processors.SIBLINGS.items():
        assert find_tdp_w(sibling, WHOLE), sibling
        assert find_tdp_w(own, WHOLE) is None, own


def test_the_table_is_read_without_its_mistakes() -> None:
    assert len(WHOLE) > 4000
    assert all(0.5 <= tdp_w <= 1000 for _, tdp_w in WHOLE)


def test_cores_of_several_sockets_are_divided_by_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "cpu_model", lambda: ("AMD EPYC 7763 64-Core Processor", False, 2))
    monkeypatch.setattr(processors.psutil, "cpu_count", lambda logical=True: 128)
    assert processors.this_core_power().power_w == pytest.approx(280 / 64)


@pytest.mark.parametrize(
    ("model", "turbo_core_w"),
    [("12th Gen Intel(R) Core(TM) i7-12700K", 30), ("AMD Ryzen 9 5900X 12-Core Processor", 25),
     ("Intel(R) Core(TM) Ultra 9 285K", 30), ("AMD EPYC 7763 64-Core Processor", 10)],
)  # fmt: skip
def test_the_bound_of_a_virtual_machine_holds_a_core_at_its_turbo_clock(model: str, turbo_core_w: float) -> None:
    """WSL shows a desktop as a virtual machine."""
    power = core_power(model, 4, virtual=True, table=WHOLE)
    assert power.low_w < turbo_core_w < power.high_w
    assert (power.high_w > 15) == ("EPYC" not in model)


@pytest.mark.parametrize("true_w", [7 / 5 / 2, 125 / 8])
def test_the_bounds_of_an_unknown_processor_hold_small_and_large_ones(true_w: float) -> None:
    power = core_power("somebody's processor", 8, virtual=False, table=WHOLE)
    assert power.low_w <= true_w <= power.high_w


def test_power_has_a_name() -> None:
    assert cpu_model("processor\t: 0\ncpu\t\t: POWER9, altivec supported\nclock\t\t: 2300MHz\n")[0].startswith("POWER9")
