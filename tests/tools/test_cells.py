"""Expansion of the table of results into cells; errors in table, pattern and data are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgead.errors import ConfigError, DataError
from tests.tools.tables import TINY, call, write_table
from tools.results.cells import TABLE, check_data, data_digest, expand, read_table, select


def test_table_expands_to_every_cell_once() -> None:
    """Every data set, coupling, base and seed of every model, and every seed of the unified models, has an id of its own."""
    table = read_table(TABLE)
    cells = expand(table)

    def seeds(model: str) -> int:
        own = table.models[model].seeds
        return len(table.seeds if own is None else own)

    combinations = len(table.data_sets) * len(table.per_class.couplings) * len(table.per_class.bases)
    per_class = combinations * sum(map(seeds, table.per_class.models))
    variants = sum(len(part.data) * len(part.seeds) for part in table.variants)
    assert len(cells) == per_class + sum(seeds(part.model) for part in table.unified) + variants
    assert len({cell.id for cell in cells}) == len(cells) > 50
    assert all(cell.modes == (("given", "predicted", "none") if cell.model == "hgad" else ()) for cell in cells)


def test_every_cell_is_what_its_id_says() -> None:
    """The validated configuration of each cell has the model, coupling, base and seed of its id."""
    for cell in expand(read_table(TABLE)):
        config = cell.config(Path("data"))
        variant = (cell.variant,) if cell.variant else ()
        settings = config.model.name, config.model.coupling, config.model.base, *variant, f"seed{config.train.seed}"
        assert "-".join((cell.data, *settings)) == cell.id


def test_every_cell_has_the_same_budget() -> None:
    """All training settings but the seed, and the size of the images, agree over all cells as edgead resolves them."""
    configs = [cell.config(Path("data")) for cell in expand(read_table(TABLE))]
    budgets = {
        (
            c.model.backbone,
            c.model.image_size,
            c.model.couplings,
            c.train.model_copy(update={"seed": 0}).model_dump_json(),
        )
        for c in configs
    }
    assert len(budgets) == 1
    assert {c.train.keep for c in configs} == {"last"}


def test_first_seed_comes_first() -> None:
    """An interrupted table has every detector of seed 0 before any of seed 1."""
    cells = expand(read_table(TABLE))
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert [cell.data for cell in cells][:3] == list(read_table(TABLE).data_sets)


def test_first_line_of_the_table_runs_it() -> None:
    """The YAML file begins with its command."""
    assert TABLE.read_text().startswith("# python -m tools.results DATA_ROOT")


VARIANT = {
    "name": "wide",
    "about": "Wider.",
    "of": {"model": "fastflow", "coupling": "affine"},
    "data": ["disc"],
    "seeds": [0],
    "settings": {"model.hidden_ratio": 2.0},
}


def test_a_variant_differs_from_its_cell_by_its_settings(tmp_path: Path) -> None:
    cells = expand(read_table(write_table(tmp_path, variants=[VARIANT])))
    (variant,) = (cell for cell in cells if cell.variant)
    (base,) = (cell for cell in cells if cell.id == "disc-fastflow-affine-normal-seed0")
    assert variant.id == "disc-fastflow-affine-normal-wide-seed0"
    assert variant.settings == {**base.settings, **VARIANT["settings"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": {**TINY["models"], "hgad": {"settings": {"train.epochs": 9}}}}, "hgad in .* changes train.epochs"),
        ({"budget": {"model.name": "cflow"}}, "budget in .* sets model.name"),
        ({"models": {**TINY["models"], "hgad": {"settings": {"train.seed": 9}}}}, "models.hgad in .* sets train.seed"),
        ({"models": {"cflow": {}}}, "fastflow, hgad"),
        ({"sedes": [0]}, "sedes"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [0, 0]}, "cap-fastflow-affine-normal-seed0 more than once"),
        ({"data_sets": ["disc", "unified"]}, "a data set unified"),
        ({"variants": [{**VARIANT, "data": ["bottle"]}]}, "variant wide in .* not there: .*bottle"),
        ({"variants": [{**VARIANT, "seeds": [3]}]}, "not there: .*3"),
        ({"variants": [{**VARIANT, "of": {"model": "uflow", "coupling": "affine"}}]}, "uses uflow"),
    ],
)
def test_wrong_table_says_what_is_wrong(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Errors in a table name the key: changed budget, and missing, unknown, empty or repeated entries."""
    with pytest.raises(ConfigError, match=said):
        read_table(write_table(tmp_path, **change))


@pytest.mark.parametrize("text", [b"a: [", b"\xff\xfe\xff", b"about: 1"])
def test_table_that_is_none_is_a_clear_error(text: bytes, tmp_path: Path) -> None:
    """A file that is not YAML, not text or not a table is refused with its name."""
    path = tmp_path / "table.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"table\.yaml is no"):
        read_table(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_table(tmp_path / "nowhere.yaml")


def test_pattern_selects_and_says_when_it_does_not() -> None:
    """`--only` takes wildcards; no match is an error with an example id."""
    cells = expand(read_table(TABLE))
    assert {cell.data for cell in select(cells, "pcb-*-seed0")} == {"pcb"}
    with pytest.raises(ConfigError, match="magnetic_tile-fastflow-affine-normal-seed0"):
        select(cells, "nothing")


def test_missing_and_foreign_data_are_named(data: Path, tmp_path: Path) -> None:
    """A missing data set, and one that does not belong in a unified model, are errors unless `--only` avoids them."""
    table = read_table(write_table(tmp_path))
    cells = expand(table)
    check_data(data, table, cells)
    with pytest.raises(DataError, match=r"data folder .*nowhere does not exist"):
        check_data(tmp_path / "nowhere", table, cells)
    for name in ("disc", "other"):
        (tmp_path / name / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"does not hold cap; it has: disc, other"):
        check_data(tmp_path, table, cells)
    (tmp_path / "cap" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="also holds other"):
        check_data(tmp_path, table, cells)
    check_data(tmp_path, table, select(cells, "disc-*"))


def test_data_digest_sees_content_and_names(tmp_path: Path) -> None:
    """A changed byte and a renamed file change the digest; a new time stamp does not."""
    file = tmp_path / "train" / "a.png"
    file.parent.mkdir()
    file.write_bytes(b"1")
    before = data_digest(tmp_path)
    file.write_bytes(b"1")
    assert data_digest(tmp_path) == before
    file.write_bytes(b"2")
    assert data_digest(tmp_path) != before
    file.write_bytes(b"1")
    file.rename(file.with_name("b.png"))
    assert data_digest(tmp_path) != before


def test_data_digest_follows_links(tmp_path: Path) -> None:
    """A folder of links to data sets, as used for unified models, has the digest of the linked files."""
    real, linked = tmp_path / "real", tmp_path / "linked"
    (real / "disc" / "train" / "good").mkdir(parents=True)
    (real / "disc" / "train" / "good" / "a.png").write_bytes(b"1")
    linked.mkdir()
    (linked / "disc").symlink_to(real / "disc")
    assert data_digest(linked) == data_digest(real)


def test_command_line_lists_and_refuses(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` prints a command per cell; a wrong pattern, a missing root and an empty page are clear errors."""
    table = write_table(tmp_path)
    assert call(table, tmp_path, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("open")
    assert lines[0].endswith("python -m tools.results DATA_ROOT --only disc-fastflow-affine-normal-seed0 --again")
    assert call(table, tmp_path, str(data), "--only", "nothing") == 2
    assert "No cell fits" in capsys.readouterr().err
    assert call(table, tmp_path, str(tmp_path / "nowhere")) == 1
    assert f"data folder {tmp_path / 'nowhere'} does not exist" in capsys.readouterr().err
    assert call(table, tmp_path) == 2
    assert "DATA_ROOT is missing" in capsys.readouterr().err
    assert call(table, tmp_path, "--only-page") == 1
    assert "There are no results" in capsys.readouterr().err
    assert call(table, tmp_path, str(data), "--limit-hours", "-1") == 0
    assert "3 cells remain" in capsys.readouterr().out
