"""`greenprune energy`: exit codes as a shell's, the whole process tree, and what is printed and written."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from greenprune.bench.cli.energy import measure, split_command
from greenprune.bench.cli.main import main
from greenprune.bench.command.process import WrappedCommand
from greenprune.bench.energy.carbon.intensity import GridIntensity
from greenprune.bench.records.stored import write_atomically

from tests.bench.energy.conftest import ROOT
from tests.bench.energy.rapl.test_rapl import zone

WORLD = GridIntensity("world", 475.0, "a test")
BURN = "import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass"


def greenprune(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "greenprune", "energy", *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["energy", "--json", "f", "--", "ls", "-l"], (["energy", "--json", "f"], ["ls", "-l"])),
        (["energy", "--", "git", "log", "--", "x"], (["energy"], ["git", "log", "--", "x"])),
        (["energy", "--"], (["energy"], [])),
        (["energy", "ls"], (["energy", "ls"], None)),
        (["run", "--", "x"], (["run", "--", "x"], None)),
        ([], ([], None)),
    ],
)
def test_what_stands_after_the_first_dashes_is_the_command(argv, expected) -> None:
    assert split_command(argv) == expected


def test_everything_is_printed_and_written_and_the_exit_code_passed_on(tmp_path: Path) -> None:
    code = f"{BURN}\nprint('out'); sys.exit(3)"
    done = greenprune(
        "--country", "fra", "--json", "e.json", "--plot", "e.svg", "--", sys.executable, "-c", code, "0.5", cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (3, "out\n")
    for part in ("kWh", "gCO2e", " J = ", "France", "rapl"):
        assert part in done.stderr
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["exit_code"] == 3
    cpu = next(s for s in found["reading"]["sources"] if s["name"] in ("cpu", "rapl:package-0"))
    assert cpu["low_j"] <= cpu["energy_j"] <= cpu["high_j"]
    assert cpu["uncertainty_j"] == pytest.approx(max(cpu["energy_j"] - cpu["low_j"], cpu["high_j"] - cpu["energy_j"]))
    total = found["totals"][cpu["kind"]]
    assert total["energy_kwh"] == pytest.approx(total["energy_j"] / 3.6e6)
    assert total["gco2e"] == pytest.approx(total["energy_kwh"] * found["grid"]["gco2e_per_kwh"])
    assert total["gco2e_low"] <= total["gco2e"] <= total["gco2e_high"]
    assert found["grid"]["country"] == "FRA"
    assert "<svg" in (tmp_path / "e.svg").read_text()


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["no-such-command-anywhere"], 127, "command not found"),
        (["./nowhere/x"], 127, "command not found"),
        ([""], 127, "command not found"),
        (["plain"], 127, "command not found"),  # in this folder, but not on PATH
        (["./plain"], 126, "cannot be executed"),
        (["."], 126, "cannot be executed"),
        (["./orphan"], 126, "cannot be executed"),
    ],
)
def test_a_command_that_cannot_be_started(command, code, message, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain").write_text("")
    Path("orphan").write_text("#!/no/such/interpreter\n")
    Path("orphan").chmod(0o755)
    assert measure(command, WORLD) == code
    error = capfd.readouterr().err
    assert error == f"greenprune: {command[0]}: {error.removeprefix(f'greenprune: {command[0]}: ')}"
    assert message in error


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_command_that_a_signal_ended(number: signal.Signals, capfd) -> None:
    assert measure([sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(number)})"], WORLD) == -number
    command = [sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(number)})"]
    assert greenprune("--", *command, cwd=Path()).returncode == -number  # what a shell sees


def test_a_termination_is_handed_on_and_what_was_used_is_told(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = subprocess.Popen(
        [sys.executable, "-m", "greenprune", "energy", "--json", "e.json", "--",
         "/bin/sh", "-c", f"echo > {ready}; exec sleep 60"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while not ready.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
        process.communicate(timeout=50)
    finally:
        process.kill()  # a process that stays would be in the tree that later tests measure
        process.wait()
    assert process.returncode == -signal.SIGTERM
    assert json.loads((tmp_path / "e.json").read_text())["exit_code"] == 143


def test_a_termination_before_the_command_starts_ends_it_without_a_start(monkeypatch, capfd, tmp_path) -> None:
    started = tmp_path / "started"
    forked = WrappedCommand._fork

    def fork_and_terminate(self: WrappedCommand, blocked) -> None:
        forked(self, blocked)
        os.kill(os.getpid(), signal.SIGTERM)  # the child is there, and the command is not

    monkeypatch.setattr(WrappedCommand, "_fork", fork_and_terminate)
    assert measure(["touch", str(started)], WORLD, idle_s=30) == -signal.SIGTERM
    assert not started.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's prctl")
def test_this_process_adopts_orphans_no_longer_than_the_command_runs(capfd) -> None:
    def adopts() -> int:
        value = ctypes.c_int(-1)
        ctypes.CDLL(None).prctl(37, ctypes.byref(value), 0, 0, 0)
        return value.value

    before = adopts()
    assert measure([sys.executable, "-c", ""], WORLD) == 0
    assert adopts() == before


def cpu_s(path: Path) -> float:
    """Seconds of CPU time in the note of the modelled CPU."""
    sources = json.loads(path.read_text())["reading"]["sources"]
    cpu = next(s for s in sources if s["name"] == "cpu")
    return float(cpu["note"].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's subreaper for the orphan")
def test_children_grandchildren_and_orphans_are_counted(tmp_path: Path) -> None:
    burn = f"{sys.executable} -S -c '{BURN}'"
    # One in the background whose shell ends at once, one grandchild, one child.
    script = f'(/bin/sh -c "{burn} 0.4 >/dev/null 2>&1 &"); /bin/sh -c "{burn} 0.4; true"; {burn} 0.4; sleep 0.8'
    powercap = tmp_path / "none"
    done = subprocess.run(
        [sys.executable, "-c", f"""
from pathlib import Path
from greenprune.bench.energy.carbon.intensity import GridIntensity
from greenprune.bench.cli.energy import measure
measure(["/bin/sh", "-c", {script!r}], GridIntensity("world", 475.0, ""), json_path=Path({str(tmp_path / "e.json")!r}),
        powercap=Path({str(powercap)!r}))
"""],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert cpu_s(tmp_path / "e.json") >= 1.15


def test_an_unreadable_powercap_tree_is_told_and_no_crash(tmp_path: Path, capfd) -> None:
    package = zone(tmp_path / "cap" / "intel-rapl:0", "package-0")
    (package / "energy_uj").unlink()
    (package / "energy_uj").mkdir()
    path = tmp_path / "e.json"
    assert measure([sys.executable, "-c", ""], WORLD, json_path=path, powercap=tmp_path / "cap") == 0
    assert "rapl:package-0: not used" in capfd.readouterr().err
    row = next(r for r in json.loads(path.read_text())["sources"] if r["source"] == "rapl:package-0")
    assert not row["available"]
    assert "cannot be read" in row["reason"]


def test_a_gpu_is_measured_with_its_net_energy(standin: Path, tmp_path: Path) -> None:
    search = f"{standin}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    done = greenprune(
        "--json", "e.json", "--idle", "0.5", "--", "/bin/sleep", "1.5", cwd=tmp_path,
        LD_LIBRARY_PATH=search, STANDIN_TRACE="300", STANDIN_PERIOD_MS="10",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "e.json").read_text())
    gpu = found["reading"]["sources"][0]
    assert (gpu["name"], gpu["kind"]) == ("nvml:0", "measured")
    assert gpu["energy_j"] == pytest.approx(300 * found["reading"]["duration_s"], rel=0.05)
    assert abs(gpu["net_j"]) <= gpu["net_uncertainty_j"] + 0.05 * gpu["energy_j"]  # it idles at 300 W here
    assert found["totals"]["measured"]["energy_j"] == gpu["energy_j"]


def test_joules_per_unit_are_printed_and_written(tmp_path: Path, capfd) -> None:
    code = f"{BURN}\nopen('counts', 'w').write('tokens = 40\\n\\ntokens=10\\n')"
    path, table, counts = tmp_path / "e.json", tmp_path / "e.csv", tmp_path / "counts"
    done = greenprune(
        "--json", str(path), "--csv", str(table), "--units", "requests=5", "--units", f"@{counts}", "--",
        sys.executable, "-c", code, "0.3", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert found["reading"]["units"] == {"requests": 5, "tokens": 50}
    row = pd.read_csv(table).set_index("kind").loc["modelled"]
    total = found["totals"]["modelled"]
    requests, tokens = total["per_unit"]
    for part, count in ((requests, 5), (tokens, 50)):
        assert part["count"] == count
        for name, of in (("j_per_unit", "energy_j"), ("low_j_per_unit", "low_j"), ("high_j_per_unit", "high_j")):
            assert part[name] == pytest.approx(total[of] / count)
            assert str(part[name]) in row[name].split(";")
    assert (row["unit"], row["unit_count"]) == ("requests;tokens", "5.0;50.0")
    assert "J per request (" in done.stderr
    assert "50 tokens" in done.stderr


def test_counts_that_cannot_be_read_are_told_and_lose_nothing(tmp_path: Path, capfd) -> None:
    absent, stale, wrong = tmp_path / "absent", tmp_path / "stale", tmp_path / "wrong"
    stale.write_text("tokens=7")
    command = [sys.executable, "-c", f"open({str(wrong)!r}, 'w').write('tokens: 9')"]
    path = tmp_path / "e.json"
    code = measure(command, WORLD, json_path=path, units={"images": 3}, unit_files=[absent, stale, wrong])
    error = capfd.readouterr().err
    assert code == 1
    assert f"greenprune: --units @{absent}: cannot be read (No such file or directory)" in error
    assert f"greenprune: --units @{stale}: the command did not write it" in error
    assert f"greenprune: {wrong} tokens: 9: allowed is NAME=NUMBER" in error
    assert json.loads(path.read_text())["reading"]["units"] == {"images": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no command"),
        (["--"], "there is no command"),
        (["ls"], "put -- before the command"),
        (["--country", "FRX", "--", "ls"], "nearest: FRA France"),
        (["--json", "no/such/folder/f", "--", "ls"], "cannot be written"),
        (["--json", "/proc/nope.json", "--", "ls"], "--json /proc/nope.json: cannot be written ("),
        (["--json", "e", "--csv", "./e", "--", "ls"], "--csv e: is the file of --json too"),
        (["--json", "e", "--units", "@e", "--", "ls"], "--units @e: is the file of --json too"),
        (["--units", "@.", "--", "ls"], "--units @.: is a folder"),
        (["--plot", "x.gif", "--", "ls"], "allowed suffixes are .png, .svg, .pdf"),
        (["--idle", "-1", "--", "ls"], "--idle -1"),
        (["--units", "tokens", "--", "ls"], "--units tokens: allowed is NAME=NUMBER"),
        (["--units", "tokens=-1", "--", "ls"], "--units tokens=-1: allowed is NAME=NUMBER"),
        (["--units", "tokens=many", "--", "ls"], "allowed is NAME=NUMBER"),
        (["--units", "tokens=1", "--units", "tokens=2", "--", "ls"], "tokens is given twice"),
    ],
)
def test_bad_input_is_one_sentence_and_runs_nothing(arguments, message, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(WrappedCommand, "__enter__", lambda _: pytest.fail("the command was started"))
    assert main(["energy", *arguments]) == 2
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("greenprune: ")
    assert message in line


def test_what_cannot_be_written_at_the_end_does_not_hide_the_exit_code(tmp_path, monkeypatch, capfd) -> None:
    def full(path: Path, text: str) -> Path:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("greenprune.bench.cli.energy.write_atomically", full)
    for code, expected in ((0, 1), (3, 3)):
        command = [sys.executable, "-c", f"raise SystemExit({code})"]
        assert measure(command, WORLD, json_path=tmp_path / "e.json") == expected
        assert "No space left on device" in capfd.readouterr().err
    assert write_atomically is not full


@pytest.mark.parametrize("argument", ["caf\udce9", "a\x1b[31m\nb"])
def test_any_command_is_a_title_of_its_plot(argument: str, tmp_path: Path, capfd) -> None:
    assert measure(["/bin/sh", "-c", "exit 7", argument], WORLD, plot_path=tmp_path / "e.svg") == 7
    assert "</svg>" in (tmp_path / "e.svg").read_text()


def test_a_plot_that_fails_is_told_and_does_not_hide_the_exit_code(tmp_path: Path, monkeypatch, capfd) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no such font")

    monkeypatch.setattr("greenprune.plots.figures.power_log.plot_power", fail)
    for code, expected in ((0, 1), (7, 7)):
        command = [sys.executable, "-c", f"raise SystemExit({code})"]
        assert measure(command, WORLD, plot_path=tmp_path / "e.svg") == expected
        assert f"--plot {tmp_path / 'e.svg'}: cannot be drawn (ValueError: no such font)" in capfd.readouterr().err


def test_a_reader_that_went_away_loses_neither_figures_nor_the_exit_code(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "greenprune", "energy", "--json", "e.json", "--csv", "e.csv", "--", "sh", "-c", "exit 3"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=write, stderr=write, timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert done.returncode == 3
    assert json.loads((tmp_path / "e.json").read_text())["exit_code"] == 3
    assert len(pd.read_csv(tmp_path / "e.csv")) >= 1


def test_a_summary_that_nobody_reads_is_no_failure(tmp_path: Path, unread) -> None:
    with unread():
        assert measure([sys.executable, "-c", ""], WORLD, json_path=tmp_path / "e.json") == 0
    assert json.loads((tmp_path / "e.json").read_text())["finished"]
