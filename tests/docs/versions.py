"""Which records are of the methods as they are here: `python -m tests.docs.versions` writes the table into the results page."""

from __future__ import annotations

from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import RECORD_FILE
from greenprune.bench.training.identity import method_hash_of

from tests.docs.between import write
from tests.docs.folders import folders
from tests.docs.paired import PAGE

COMMAND = "python -m tests.docs.versions"


def table() -> str:
    """Markdown: a row for each folder of runs, how many there are, and which were run by another version of their method."""
    lines = [
        "| Folder | Runs | By the methods as they are here | Methods of before |\n",
        "| --- | ---: | ---: | --- |\n",
    ]
    for folder in folders():
        records = [read_record(path) for path in sorted(folder.glob(f"*/{RECORD_FILE}"))]
        before = [record for record in records if record.identity.method != method_hash_of(record.method_name)]
        names = ", ".join(f"`{method}`" for method in sorted({record.method for record in before}))
        if records:
            lines.append(f"| {folder.name} | {len(records)} | {len(records) - len(before)} | {names} |\n")
    return "".join(lines)


if __name__ == "__main__":
    write(PAGE, COMMAND, table(), "versions")
