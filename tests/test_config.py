"""Settings: which source beats which, and what is never shown."""

from pathlib import Path

import pytest

from optimizer.config import Settings, load_settings
from optimizer.errors import ConfigError
from optimizer.programs import demo_environment

ADDRESS = "postgresql://ana:open-sesame@host/ledger"


def ledger_of(settings: Settings) -> str:
    return settings.ledger_url.get_secret_value()


def test_the_ledger_lies_in_the_home_unless_told_otherwise(tmp_path: Path) -> None:
    beside = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    assert ledger_of(load_settings({}, home=tmp_path)) == beside
    assert ledger_of(load_settings({"OPTIMIZER_HOME": str(tmp_path)})) == beside
    assert ledger_of(Settings(home=tmp_path)) == beside


def test_the_address_of_the_ledger_comes_from_the_environment_before_the_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "optimizer.toml"
    file.write_text(f'ledger_url = "{ADDRESS}"\n')
    assert ledger_of(load_settings({}, home=tmp_path, file=file)) == ADDRESS
    other = {"OPTIMIZER_LEDGER_URL": "sqlite:///other.sqlite"}
    assert ledger_of(load_settings(other, home=tmp_path, file=file)) == "sqlite:///other.sqlite"


def test_the_demo_writes_to_no_ledger_but_its_own(tmp_path: Path) -> None:
    configured = {"OPTIMIZER_HOME": "/elsewhere", "OPTIMIZER_LEDGER_URL": ADDRESS}
    settings = load_settings(configured | demo_environment(tmp_path))
    assert settings == Settings(home=tmp_path)


def test_no_form_of_the_settings_shows_the_password_of_the_ledger(tmp_path: Path) -> None:
    settings = load_settings({"OPTIMIZER_LEDGER_URL": ADDRESS}, home=tmp_path)
    for form in (repr(settings), str(settings), settings.model_dump_json(), f"{settings!r}"):
        assert "open-sesame" not in form


def test_a_home_that_is_no_path_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "optimizer.toml"
    file.write_text("home = 5\n")
    with pytest.raises(ConfigError) as refused:
        load_settings({}, file=file)
    assert str(refused.value).startswith("The setting home cannot be used: ")
