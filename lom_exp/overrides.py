"""Numbers as choices of config groups, as users type them: M=7, beta=0.3.

Hydra takes a group's choice for a file name and refuses a number. Here the number is quoted, as it
must be, and where the group has no file of that name the choice is made up from the value.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser

from lom_exp.errors import ConfigError

CONF = Path(__file__).resolve().parents[1] / "conf"
VALUE_GROUPS = ("M", "beta")  # groups of numbers that take any other


@cache
def options(group: str) -> tuple[str, ...]:
    """The choices a group has files for; numbers by size, before words."""
    names = [path.stem for path in (CONF / group).glob("*.yaml")]
    numbers = {name: number for name in names if (number := _number(name)) is not None}
    return (*sorted(numbers, key=numbers.__getitem__), *sorted(set(names) - set(numbers)))


@cache
def groups() -> tuple[str, ...]:
    """The groups a user chooses from."""
    return tuple(name for name in sorted(path.name for path in CONF.iterdir()) if options(name))


def quote_numbers(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments with every number that is a group's choice quoted.

    Sweeps (M=2,5 and M=range(2,8)) are left alone: Hydra parses them, and each value comes by here
    again when it has a job of its own.
    """
    return [_quoted(argument) for argument in arguments]


def _quoted(argument: str) -> str:
    group, _, text = argument.removeprefix("+").partition("=")
    if not text or group not in groups():
        return argument
    argument = f"{group}={text}"  # +experiment=smoke, as other projects have it, adds nothing
    [override] = OverridesParser.create().parse_overrides([argument])
    if override.is_sweep_override():
        return argument
    value = override.value()
    if isinstance(value, str):
        number = _number(value)
        value = value if number is None else number
    if isinstance(value, bool) or not isinstance(value, int | float):
        if group in VALUE_GROUPS and not isinstance(value, str):
            raise ConfigError(
                f"{argument} cannot be used: it must be one number, such as {group}=10; several, "
                f"as in {group}=2,5, are a sweep"
            )
        return argument
    # 5, 5.0 and 5e0 are one choice, and so one run.
    choice = repr(float(value)).removesuffix(".0") if isinstance(value, float) else str(value)
    if group in VALUE_GROUPS and choice not in options(group):
        value = int(choice) if choice.lstrip("-").isdigit() else float(choice)
        ConfigStore.instance().store(
            group=group, name=choice, node={group: value}, package="_global_", provider="lom_exp"
        )
    return f"{group}='{choice}'"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
