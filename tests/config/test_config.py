"""Settings: one file, overrides, presets, and every mistake said at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgead.config.families import FAMILIES
from edgead.config.file import describe_config, load_config, parse_override
from edgead.config.model import ModelConfig
from edgead.config.root import Config
from edgead.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `edgead.yaml` of the folder that the tests run in."""
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "c.yaml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_valid_and_frozen() -> None:
    """Without a file the defaults hold, they pass their own ranges, and they are frozen."""
    config = load_config(None, {})
    assert config == Config()
    assert Config.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3  # type: ignore[misc]


def test_every_mistake_is_listed_with_its_key_and_value() -> None:
    """Unknown keys and values out of range, in a file and in overrides, come in one error with dotted keys."""
    path = write(
        "train: {epochs: -1, speling: 2}\nmodel: {image_size: 50}\nnothing: {a: 1}\nalerts: {close_ratio: 7}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"stream.opacity": 3})
    message = caught.value.message
    for key, value in (
        ("train.epochs", "-1"), ("train.speling", None), ("model.image_size", "50"), ("nothing", None),
        ("stream.opacity", "3"), ("alerts.close_ratio", "7"),
    ):  # fmt: skip
        (line,) = [line for line in message.splitlines() if line.strip().startswith(f"{key}:")]
        # the value of an unknown key may be a line of another file
        assert line.endswith("are not permitted" if value is None else f"(got {value})")
    assert message.startswith("6 setting(s) in c.yaml")
    assert caught.value.exit_code == 2


def test_what_is_wrong_with_the_whole_shows_nothing_of_it() -> None:
    """Two cameras of one name: the rest of the configuration may hold passwords."""
    one = "{name: a, source: 'rtsp://u:secret@h/1'}"
    with pytest.raises(ConfigError, match="twice: a") as caught:
        load_config(
            write(f"cameras: [{one}, {one}]\nsinks: [{{kind: mqtt, host: h, user: u, password: hidden}}]\n"), {}
        )
    assert "secret" not in caught.value.message
    assert "hidden" not in caught.value.message


def test_overrides_beat_the_file_and_the_file_beats_defaults() -> None:
    """The order is default, file, override."""
    path = write("train: {epochs: 11, seed: 5}\n")
    config = load_config(path, {"train.epochs": 12})
    assert (config.train.epochs, config.train.seed) == (12, 5)
    assert config.train.batch_size == Config().train.batch_size


def test_edgead_yaml_is_read_when_there() -> None:
    """The file of the current folder is the default one, and a named file replaces it."""
    write("train: {epochs: 3}\n", "edgead.yaml")
    assert load_config(None, {}).train.epochs == 3
    assert load_config(write("train: {seed: 1}\n"), {}).train.epochs == Config().train.epochs


def test_a_preset_changes_defaults_and_nothing_that_was_said() -> None:
    """`fastflow` brings the published settings; a key beside it still wins."""
    published = load_config(None, {"model.name": "fastflow"}).model
    for key, value in FAMILIES["fastflow"].model.items():
        assert getattr(published, key) == value
    assert load_config(None, {"model.name": "fastflow", "model.blocks": 2}).model.blocks == 2
    assert ModelConfig().coupling == "uniform"


@pytest.mark.parametrize("name", ["patchcore", "", 3, ["usf"], {"a": 1}, None])
def test_an_unknown_model_is_a_config_error(name: Any) -> None:
    """The error names the key for a value of any type."""
    with pytest.raises(ConfigError, match=r"model\.name"):
        load_config(None, {"model.name": name})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.level_weights": [1.0, 2.0]}, "one number per level"),
        ({"model.kernels": [[3, 2]]}, "kernels may be 1, 3 or 5"),
        ({"alerts.open_frames": 9}, "open_frames must not exceed window_frames"),
        ({"train.learning_rate": float("nan")}, r"train\.learning_rate"),
        ({"cameras": [{"name": "a", "source": "synthetic", "threshold": float("nan")}]}, r"cameras\.0\.threshold"),
        ({"alerts.cooldown_s": float("inf")}, r"alerts\.cooldown_s"),
        ({"data.threshold_fraction": 0.5}, r"data\.threshold_fraction"),
        ({"train": 3}, "train"),
        ({"train.epochs.more": 3}, r"train\.epochs"),
        ({"a": 1}, "a: "),
    ],
)
def test_values_that_do_not_fit_together_are_refused(overrides: dict[str, Any], message: str) -> None:
    """Rules across keys, NaN, and keys that are no key are refused like ranges."""
    with pytest.raises(ConfigError, match=message):
        load_config(None, overrides)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_level_weights_are_finite_and_positive(value: float) -> None:
    """A weight of NaN would make every score NaN, a negative one would reward anomalies."""
    with pytest.raises(ConfigError, match="level_weights"):
        load_config(None, {"model.level_weights": [value]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- 1\n- 2\n", "must contain sections with keys, got a list"),
        ("just text", "got a str"),
        ("train: 3\n", "train"),
        ("1: {a: 2}\n", "keys that are no text"),
    ],
)
def test_files_that_are_no_configuration(text: str, message: str) -> None:
    """Damaged YAML and other content is a ConfigError."""
    with pytest.raises(ConfigError, match=message):
        load_config(write(text), {})


def test_files_that_cannot_be_read() -> None:
    """A missing file, a folder and binary content are ConfigErrors that name the file."""
    with pytest.raises(ConfigError, match=r"missing\.yaml cannot be read"):
        load_config(Path("missing.yaml"), {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(Path(), {})
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(Path("binary.yaml"), {})


def test_an_empty_file_and_an_empty_section_are_the_defaults() -> None:
    """A file of comments, or a section whose keys are all commented out, changes nothing."""
    assert load_config(write("# nothing\n"), {}) == Config()
    assert load_config(write("train:\n  # epochs: 3\n"), {}) == Config()
    assert load_config(write("train:\n"), {"train.epochs": 4}).train.epochs == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.epochs=20", ("train.epochs", 20)),
        ("model.levels=[16, '8:4']", ("model.levels", [16, "8:4"])),
        ("model.weights=a=b.safetensors", ("model.weights", "a=b.safetensors")),
        ("train.device=cpu", ("train.device", "cpu")),
        ("model.weights=", ("model.weights", None)),
    ],
)
def test_overrides_are_yaml(text: str, expected: tuple[str, Any]) -> None:
    """Everything behind the first `=` is read as YAML."""
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["epochs=3", "train.epochs", "", "=3", "train.epochs=[1"])
def test_other_overrides_are_refused(text: str) -> None:
    """Anything but `section.key=value` is a ConfigError."""
    with pytest.raises(ConfigError):
        parse_override(text)


def test_the_description_covers_every_key() -> None:
    """Each key of each section is there once, in order, with its default and a sentence."""
    rows = {key: (default, meaning) for key, default, meaning in describe_config()}
    dumped = Config().model_dump()
    for section, values in dumped.items():
        for name, value in values.items() if isinstance(values, dict) else ():
            default = str(getattr(getattr(Config(), section), name))
            assert rows[f"{section}.{name}"][0] == default, value
    assert rows["cameras[].source"][0] == "required"
    assert rows["cameras[].class"][0] == "None"
    assert rows["cameras[].zones[].include"][0] == "()"
    assert rows["sinks[mqtt].host"][0] == rows["sinks[webhook].url"][0] == "required"
    n_listed = sum("[" in key for key in rows)
    assert len(rows) - n_listed == sum(len(values) if isinstance(values, dict) else 1 for values in dumped.values())
    assert all(meaning.endswith((".", ")")) for key, (_, meaning) in rows.items() if not key.endswith(".kind"))


def test_a_file_changes_those_that_it_includes(tmp_path: Path) -> None:
    """Included files are merged in order, key by key of a section, from the folder of the naming file."""
    (tmp_path / "parts").mkdir()
    write("model: {name: fastflow, image_size: 256}\ntrain: {epochs: 500, seed: 1}\n", "parts/model.yaml")
    write("include: model.yaml\ntrain: {epochs: 200}\ndata: {root: visa}\n", "parts/both.yaml")
    write("train: {batch_size: 8}\n", "parts/few.yaml")
    path = write("include: [parts/both.yaml, parts/few.yaml]\ntrain: {seed: 2}\nmodel:\n")
    config = load_config(path, {"model.image_size": 64})
    assert (config.train.epochs, config.train.seed, config.train.batch_size) == (200, 2, 8)
    assert (config.model.name, config.model.image_size, str(config.data.root)) == ("fastflow", 64, "visa")


def test_a_file_may_be_included_twice_but_not_by_itself() -> None:
    """Two ways to one file are no circle; a circle is refused with the way around it."""
    write("train: {epochs: 7}\n", "root.yaml")
    write("include: root.yaml\n", "left.yaml")
    write("include: root.yaml\n", "right.yaml")
    assert load_config(write("include: [left.yaml, right.yaml]\n"), {}).train.epochs == 7
    write("include: c.yaml\n", "right.yaml")
    with pytest.raises(ConfigError, match=r"includes itself: c\.yaml -> right\.yaml -> c\.yaml"):
        load_config(Path("c.yaml"), {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("include: nowhere.yaml", r"nowhere\.yaml, included by c\.yaml, cannot be read"),
        ("include: 3", r"`include` one file or a list of files, got 3"),
        ("include: [a.yaml, {b: c}]", "one file or a list of files"),
        ("include:", "one file or a list of files, got None"),
        ("include: ''", "one file or a list of files"),
    ],
)
def test_what_cannot_be_included_is_said(text: str, said: str) -> None:
    """A missing file is named with the one that wants it, and anything but names of files is refused."""
    with pytest.raises(ConfigError, match=said):
        load_config(write(text), {})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"name": "hgad"}, "which hgad does not have"),
        ({"name": "vae-usf"}, "which vae-usf does not have"),
        ({"name": "cflow"}, "coupling=uniform"),
        ({"name": "fastflow", "likelihood_map": True}, "coupling=uniform"),
    ],
)
def test_nfa_is_refused_without_norms_of_standard_normal_latents(settings: dict[str, Any], why: str) -> None:
    """Where the score is not made of norms there is no number of false detections, and the error says what to do."""
    with pytest.raises(ValueError, match=f"segmentation=nfa needs .*{why}"):
        ModelConfig.model_validate({**settings, "segmentation": "nfa"})


@pytest.mark.parametrize("name", ["usf", "fastflow", "cflow", "uflow"])
def test_nfa_is_a_choice_and_never_a_default(name: str) -> None:
    """Every preset goes by the pixel threshold; with uniform couplings each of these may use the NFA."""
    assert ModelConfig.model_validate({"name": name}).segmentation == "threshold"
    config = ModelConfig.model_validate({"name": name, "coupling": "uniform", "segmentation": "nfa"})
    assert config.segmentation == "nfa"


@pytest.mark.parametrize(
    "text",
    [
        "sinks: [{kind: webhook, url: 'http://x', secret: hunter2, colour: red}]",
        "sinks: [{kind: mqtt, host: x, user: u, password: [hunter2]}]",
        "sinks: [{kind: webhook, url: 'ftp://u:hunter2@x'}]",
        "sinks: [{kind: fax, password: hunter2}]",
        "cameras: [{name: a, source: ['rtsp://u:hunter2@x']}]",
        "cameras: [{name: a, source: 'rtsp://u:hunter2@x', colour: red}]",
        "cameras: [{name: a, source: 'rtsp://u:hunter2@x', zones: nowhere}]",
    ],
)
def test_errors_show_no_passwords(text: str) -> None:
    """Errors about sinks and sources never repeat their values."""
    with pytest.raises(ConfigError) as caught:
        load_config(write(text), {})
    assert "hunter2" not in str(caught.value) + caught.value.message + (caught.value.hint or "")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.epoch", 3, "Did you mean train.epochs?"),
        ("model.epochs", 3, "Did you mean train.epochs?"),
        ("trian.seed", 3, "trian: Extra inputs are not permitted. Did you mean train?"),
        ("model.name", "fastflwo", "Did you mean fastflow?"),
        ("model.coupling", "afine", "Did you mean affine?"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest(key: str, value: Any, said: str) -> None:
    """A wrong key or name of a setting is followed by the one that was probably meant."""
    with pytest.raises(ConfigError) as caught:
        load_config(None, {key: value})
    assert said in caught.value.message


def test_a_key_without_its_section_is_answered_with_the_whole_key() -> None:
    """`--set epochs=3` is answered with the key in its section; a name that resembles none with nothing."""
    for text, said in (("epochs=3", "Did you mean train.epochs?"), ("banana=3", "train.epochs=20.")):
        with pytest.raises(ConfigError) as caught:
            parse_override(text)
        assert caught.value.hint.endswith(said)
