"""`greenprune measure`: what it takes."""

from __future__ import annotations

import pytest
from greenprune.bench.cli.main import main


@pytest.mark.parametrize("size", ["65537", "999999999", "0"])
def test_batches_are_no_larger_than_those_of_a_suite(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["measure", "nowhere", "--batch-sizes", size])
    assert ended.value.code == 2
    assert f"{size}: allowed is a whole number from 1 to 65,536" in capsys.readouterr().err
