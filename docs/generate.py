"""Pages that MkDocs makes while it builds the site: the command line from its parser, the keys of a suite from its schema.

A hook of MkDocs (see mkdocs.yml), and a module that the tests read. Docstrings are read without importing anything, from
build/api: a folder of links that shows the package as it is installed, while its parts lie elsewhere in the repository.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_startup(**_: Any) -> None:
    """Lay out build/api, where mkdocstrings looks for the package (`paths` in mkdocs.yml)."""
    link_package(ROOT / "build" / "api")


def link_package(place: Path) -> None:
    """Make `place/greenprune` a tree of links to the folders that pyproject.toml names as the package's parts."""
    parts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-dir"]
    top = place / "greenprune"
    top.mkdir(parents=True, exist_ok=True)
    wanted = {top / path.name: path for path in (ROOT / parts["greenprune"]).iterdir() if path.name != "__pycache__"}
    wanted |= {top / name.partition(".")[2]: ROOT / folder for name, folder in parts.items() if "." in name}
    for link, target in wanted.items():
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of docs/, the figures that they show, and the site of our own results."""
    for path, page in pages().items():
        files.append(File.generated(config, path, content=page))
    for figure in sorted((ROOT / "results" / "paper-cpu" / "figures").glob("*.svg")):
        files.append(File.generated(config, f"assets/results/{figure.name}", abs_src_path=str(figure)))
    site = published(ROOT / "build" / "records")
    for path in sorted(path for path in site.rglob("*") if path.is_file() and path.suffix != ".md"):  # pages are .md
        files.append(File.generated(config, f"records/{path.relative_to(site).as_posix()}", abs_src_path=str(path)))
    return files


def published(site: Path) -> Path:
    """Our own results as the site that `greenprune publish` makes, in the folder `site`."""
    import_where_it_lies()
    from greenprune.plots.report.publish import publish

    publish([ROOT / "results"], site)
    return site


def import_where_it_lies() -> None:
    """Without an installation the package is imported from its links; torch is needed for none of this."""
    if find_spec("greenprune") is None:
        sys.path.insert(0, str(ROOT / "build" / "api"))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the text of a file in place of `<!-- include: path -->`, so that figures are written down once."""
    return re.sub(r"<!-- include: (\S+) -->", lambda found: (ROOT / found[1]).read_text(encoding="utf-8"), markdown)


def pages() -> dict[str, str]:
    """Markdown of each generated page by its path below docs/."""
    import_where_it_lies()
    from greenprune.bench.cli.main import parser
    from greenprune.bench.suite.schema import schema

    return {
        "reference/command-line.md": command_line(parser()),
        "reference/suite.md": suite_keys(schema()),
        "explanation/energy-meter.md": energy_meter(),
    }


def energy_meter() -> str:
    """The table of results/energy-meter."""
    text = (ROOT / "results" / "energy-meter" / "table.md").read_text(encoding="utf-8")
    return "\n".join(map(_plain, text.splitlines())) + "\n"


def command_line(parser: argparse.ArgumentParser) -> str:
    """A page with a section for each command: what it is for, its usage, its arguments."""
    lines = ["# Command line", "", _sentence(parser.description), "", *_arguments(parser)]
    for name, command, about in _commands(parser):
        lines += [f"## greenprune {name}", "", _sentence(about), "", "```text", _usage(command), "```", ""]
        if command.description and command.description != about:
            lines += [command.description, ""]
        lines += _arguments(command)
    lines += [
        "## Exit codes",
        "",
        "| code | meaning |",
        "| ---: | --- |",
        "| 0 | everything went well |",
        "| 1 | a run failed, `compare` found something worse, `verify` something wrong, "
        "or `prune` broke its budget or could not write a file |",
        "| 2 | bad input: one sentence on standard error names it and what is allowed |",
        "| 130 | interrupted; what was finished is kept |",
        "",
        "`greenprune energy` returns the code of the command that it measures.",
        "",
    ]
    return "\n".join(lines)


def suite_keys(schema: dict[str, Any]) -> str:
    """A page with a table for each table of a suite file, and one for the options of each method and task."""
    definitions = schema["$defs"]
    lines = [
        "# Suite files",
        "",
        "A suite is one TOML file. `greenprune schema` prints the schema that this page is made from, for editors.",
        "",
    ]
    lines += ["## Shipped suites", "", "| suite | question |", "| --- | --- |", *_shipped(), ""]
    lines += ["## Top level", "", *_keys(schema, definitions)]
    for title, name in _tables(schema, definitions):
        lines += [
            f"## {title}",
            "",
            _sentence(definitions[name].get("description", "")),
            "",
            *_keys(definitions[name], definitions),
        ]
    for title, described in (("methods", definitions["MethodEntry"]), ("tasks", schema["properties"]["task"])):
        lines += [f"## Options of the {title}", ""]
        for entry in described.get("allOf", []):
            name = entry["if"]["properties"]["name"]["const"]
            options = entry["then"]["properties"]["options"]
            lines += [f"### {name}", ""]
            lines += _keys(options, definitions) if options.get("properties") else ["It has no options.", ""]
    return "\n".join(lines)


def _shipped() -> Iterator[str]:
    """A row for each suite that comes with greenprune: the first line of its file says which question it answers."""
    for path in sorted((ROOT / "bench" / "suites").glob("*.toml")):
        first = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        yield f"| `{path.stem}` | {_cell(first)} |"


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Name, parser and help of each command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                yield name, command, helps.get(name, "")


def _usage(parser: argparse.ArgumentParser) -> str:
    """As --help prints it, in lines of a fixed width and without colours."""
    formatter = argparse.HelpFormatter(parser.prog, width=80)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return re.sub(r"\x1b\[[0-9;]*m", "", formatter.format_help()).strip()


def _arguments(parser: argparse.ArgumentParser) -> list[str]:
    """A table of the arguments, without --help and the commands themselves."""
    skipped = (argparse._HelpAction, argparse._SubParsersAction)
    rows = []
    for action in parser._actions:
        if isinstance(action, skipped) or action.help == argparse.SUPPRESS:
            continue
        name = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{action.metavar or action.dest}`"
        if action.option_strings and action.nargs != 0:
            value = action.metavar or (
                "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
            )
            name += f" `{value}`"
        text = (action.help or "") % {**vars(action), "prog": parser.prog} if action.help else ""
        rows.append(f"| {_cell(name)} | {_cell(text)} |")
    return ["| argument | meaning |", "| --- | --- |", *rows, ""] if rows else []


def _tables(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Heading and definition of each table of the file, in the order of the keys."""
    for key, about in schema["properties"].items():
        for name in _references(about):
            if definitions[name].get("type") == "object":
                many = about.get("type") == "array"
                yield (f"[[{key}]]" if many else f"[{key}]"), name
                break


def _references(about: Any) -> Iterator[str]:
    if isinstance(about, dict):
        if "$ref" in about:
            yield about["$ref"].rpartition("/")[2]
        for value in about.values():
            yield from _references(value)
    elif isinstance(about, list):
        for value in about:
            yield from _references(value)


def _keys(table: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    required = table.get("required", ())
    rows = ["| key | allowed | default | meaning |", "| --- | --- | --- | --- |"]
    for key, about in table.get("properties", {}).items():
        default = "required" if key in required else _default(about)
        rows.append(
            f"| `{key}` | {_cell(_allowed(about, definitions))} | {_cell(default)} | {_cell(about.get('description', ''))} |"
        )
    return [*rows, ""]


def _default(about: dict[str, Any]) -> str:
    value = about.get("default")
    if value in (None, "") or isinstance(value, dict):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(about: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        target = definitions[name]
        return "a table" if target.get("type") == "object" else _allowed(target, definitions)
    if "enum" in about:
        return " or ".join(f"`{value}`" for value in about["enum"])
    if "const" in about:
        return f"`{about['const']}`"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in about:
            kinds = [_allowed(one, definitions) for one in about[several] if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    kind = about.get("type", "")
    if kind == "array":
        inner = about.get("items") or {}
        return f"list of {_allowed(inner, definitions)}" if inner else "list"
    words = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "`true` or `false`",
        "object": "a table",
    }
    return " ".join(filter(None, [words.get(kind, kind), _bounds(about)]))


def _bounds(about: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return ", ".join(
        f"{sign} {about[name]:,}" for name, sign in signs.items() if isinstance(about.get(name), int | float)
    )


def _sentence(text: str | None) -> str:
    text = re.sub(r"\s+", " ", text or "").strip()
    return text and text[0].upper() + text[1:].rstrip(".") + "."


def _cell(text: str) -> str:
    """On one line, and with nothing in it that Markdown would take for more than text; code stays as it is."""
    return _plain(re.sub(r"\s+", " ", text).replace("|", "\\|").strip())


def _plain(text: str) -> str:
    """Without tags: what looks like one is text, outside of code."""
    return "`".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(text.split("`")))
