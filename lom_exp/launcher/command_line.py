"""The command line: Hydra's sweeper and launcher that train all runs of a command in one process.

Every command is a sweep, of one run or of many. Whatever needs torch is imported when it is
needed, so that `--help` answers at once.
"""

import gc
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from lom_exp.errors import ConfigError, LomExpError
from lom_exp.overrides import CONF, options, quote_numbers

if TYPE_CHECKING:
    from lom_exp.launcher.control import Settings
    from lom_exp.runspec import ExecutionConfig, LaunchConfig, RunSpec, Sweep

MAX_NAME_LENGTH = 100
MAX_PART_LENGTH = 40
DRY_RUN = "--dry-run"  # a flag that Hydra's own parser does not know
INTERRUPTED = 130  # the exit code that shells give to Ctrl-C


def main() -> int:
    """Run the command line in sys.argv; returns the exit code."""
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print
    plugins = Plugins.instance().class_name_to_class
    # Plugins.register would name the classes by their module, and Hydra makes none from outside
    # the package hydra_plugins.
    plugins["hydra_plugins.lom_exp.LocalLauncher"] = LocalLauncher
    plugins["hydra_plugins.lom_exp.SlurmLauncher"] = SlurmLauncher
    plugins["hydra_plugins.lom_exp.GridSweeper"] = GridSweeper
    try:
        if {"-h", "--help"} & set(sys.argv[1:]):
            sys.argv[1:] = ["--help"]
            OmegaConf.register_new_resolver("options", _option_list, replace=True)
            _hydra_main("help")
        else:
            words = quote_numbers(sys.argv[1:])
            sys.argv[1:] = [word for word in words if word != DRY_RUN]
            if DRY_RUN in words:
                sys.argv.append("hydra.sweeper.dry_run=true")
            if not any(argument.startswith("-") for argument in sys.argv[1:]):
                # As conf/config.yaml has it, but also where that does not compose: Hydra would
                # then complain of the sweep instead.
                sys.argv.append("--multirun")
            from lom_exp import configuration

            configuration.register()
            gc.freeze()  # of the imports nothing becomes garbage; a large sweep makes much of it
            _hydra_main("config")
    except KeyboardInterrupt:
        print("interrupted; the same command again goes on", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        message = _message(error)
        if wants_traceback or message is None:
            raise
        print(f"error: {message}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _hydra_main(config_name: str) -> None:
    hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")(run_one)()


def _option_list(group: str) -> str:
    """A group's options, wrapped and indented for the help text."""
    lines = [""]
    for option in options(group):
        separator = ", " if lines[-1] else ""
        if len(lines[-1] + separator + option) > 84:
            lines[-1] += ","
            lines.append(option)
        else:
            lines[-1] += separator + option
    return ("\n" + 14 * " ").join(lines)


def _message(error: Exception) -> str | None:
    """What to tell a user about an error they can mend; None for any other."""
    from lom_exp.composition_errors import explain

    return str(error) if isinstance(error, LomExpError) else explain(error)


def run_one(config: DictConfig) -> None:
    """The task of Hydra's other launchers: one job, one run."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    from lom_exp import configuration
    from lom_exp.runspec import Sweep

    with open_dict(config):
        config.hydra = HydraConfig.get()
    overrides = list(config.hydra.overrides.task)
    spec = configuration.run_spec(config, GlobalHydra.instance().config_loader())
    command = ["python", "launch.py", *overrides]
    sweep = Sweep(config.sweep_name, command, overrides, is_part=True)
    execution, _ = configuration.execution_config([spec])
    train(spec, execution, sweep)


def train(spec: "RunSpec", execution: "ExecutionConfig", sweep: "Sweep") -> None:
    """Train one run in this process; raises an error where it did not come to an end."""
    from lom_exp import experiment
    from lom_exp.runs import FINAL
    from lom_exp.training import Interrupted

    try:
        [result] = experiment.run([spec], execution, sweep)
    except Interrupted:
        raise KeyboardInterrupt from None
    if result.status not in FINAL:
        raise LomExpError(f"{result.folder.name} did not finish: {result.error}")


class PackLauncher(Launcher):
    """Composes all jobs of a sweep first, so that one mistake stops all; then has them trained."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context, self.config = hydra_context, config

    def settings(self, execution: "ExecutionConfig", launch: "LaunchConfig") -> "Settings":
        """How the sweep is carried out; raises ConfigError."""
        raise NotImplementedError

    def compose(self, jobs: Sequence[Sequence[str]]) -> "tuple[list[RunSpec], Settings]":
        """The runs of all jobs and how they are carried out; raises ConfigError."""
        from lom_exp import configuration

        loader = self.hydra_context.config_loader
        specs = configuration.run_specs(jobs, self.config, loader)
        return specs, self.settings(*configuration.execution_config(specs))

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Returns a completed job for each; raises if a run did not finish."""
        from lom_exp.launcher import control, table
        from lom_exp.runspec import Sweep

        setup_globals()
        configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
        specs, settings = self.compose(job_overrides)
        command = ["python", *sys.orig_argv[1:]]
        overrides = list(self.config.hydra.overrides.task)
        name = self.config.sweep_name
        survey = control.carry_out(specs, settings, Sweep(name, command, overrides))
        if not settings.launch.wait:
            print(  # noqa: T201
                table.headline(survey).plain,
                f"Nothing waits for them here. `{table.COMMAND} status {survey.sweep.in_words}` "
                "shows how they fare, with --watch all the time.",
                *(line.plain for line in table.next_step(survey)),
                sep="\n",
            )
        else:
            control.require_finished(survey)
        return [JobReturn(overrides=job, status=JobStatus.COMPLETED) for job in job_overrides]


class LocalLauncher(PackLauncher):
    """Trains in worker processes on this machine."""

    def __init__(self, workers: int | None) -> None:
        self.workers = workers

    def settings(self, execution: "ExecutionConfig", launch: "LaunchConfig") -> "Settings":
        """How the sweep is carried out; raises ConfigError."""
        from lom_exp.experiment import resolve_device
        from lom_exp.launcher.control import Settings
        from lom_exp.launcher.local import require_count

        resolve_device(execution.device)
        if self.workers is not None:
            require_count("hydra.launcher.workers", self.workers)
        return Settings(execution, launch, cluster=None, workers=self.workers)


class SlurmLauncher(PackLauncher):
    """Has jobs of a Slurm cluster train, one pack each; the fields are those of ClusterConfig."""

    def __init__(self, **fields: Any) -> None:
        self.fields: Any = OmegaConf.to_container(OmegaConf.create(fields), resolve=True)

    def settings(self, execution: "ExecutionConfig", launch: "LaunchConfig") -> "Settings":
        """How the sweep is carried out; raises ConfigError."""
        from lom_exp.launcher.cluster import ClusterConfig
        from lom_exp.launcher.control import Settings

        return Settings(execution, launch, ClusterConfig(**self.fields))


class GridSweeper(Sweeper):
    """Every combination of the swept values, under a name made of them."""

    def __init__(self, params: Mapping[str, str] | None, dry_run: bool) -> None:
        self.params, self.dry_run = dict(params or {}), dry_run

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.context, self.sweep_config = hydra_context, config
        self.task_function = task_function

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Returns what the jobs return; raises if one failed."""
        # Imported before Hydra has scanned its plugins, this class would exist twice.
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        parser = OverridesParser.create(config_loader=self.context.config_loader)
        params = [f"{key}={value}" for key, value in self.params.items()]
        overrides = parser.parse_overrides([*params, *arguments])
        [combinations] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        texts = list(dict.fromkeys(text for job in combinations for text in job))
        quoted = dict(zip(texts, quote_numbers(texts), strict=True))
        jobs = list(dict.fromkeys(tuple(quoted[text] for text in job) for job in combinations))
        if not jobs:
            raise ConfigError(
                f"{_without_values(overrides)} has no values, so there is nothing to run; give at "
                "least one"
            )
        if self.sweep_config.sweep_name is None:
            name = sweep_name(jobs, parser.parse_overrides(arguments), self.sweep_config)
            with open_dict(self.sweep_config):
                self.sweep_config.sweep_name = name
            jobs = [(*job, f"sweep_name='{name}'") for job in jobs]
        # Only now: other launchers read the sweep's folder off the config as they are made.
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context,
            task_function=self.task_function,
            config=self.sweep_config,
        )
        if self.dry_run or not isinstance(launcher, PackLauncher):
            specs, settings = self._checked(jobs, launcher)
            if self.dry_run:
                from lom_exp.launcher import control

                print(control.forecast(self.sweep_config.sweep_name, specs, settings))  # noqa: T201
                return []
        return [result.return_value for result in launcher.launch(jobs, initial_job_idx=0)]

    def _checked(
        self, jobs: Sequence[Sequence[str]], launcher: Launcher
    ) -> "tuple[list[RunSpec], Settings]":
        """The runs of all jobs, in which other launchers would find a mistake on other machines."""
        from lom_exp import configuration
        from lom_exp.launcher.control import Settings

        if isinstance(launcher, PackLauncher):
            return launcher.compose(jobs)
        specs = configuration.run_specs(jobs, self.sweep_config, self.context.config_loader)
        for spec in specs:
            execution, launch = configuration.execution_config([spec])
        return specs, Settings(execution, replace(launch, pack_size=1), cluster=None)


def _without_values(overrides: Sequence[Override]) -> str:
    """The sweep among them that asks for nothing."""
    sweeps = (override for override in overrides if override.is_sweep_override())
    return next(str(o.input_line) for o in sweeps if not list(o.sweep_string_iterator()))


def sweep_name(jobs: Sequence[Sequence[str]], typed: Sequence[Any], config: DictConfig) -> str:
    """What is swept, and a hash of all jobs: lom_hopper-medium_M2+5_seed0+1_1a2b3c4d.

    A ready-made sweep to which nothing was added has the experiment's name. How runs are carried
    out changes no name.
    """
    from lom_exp.configuration import EXECUTION_KEYS

    def matters(key: str) -> bool:
        return key.split(".")[0] not in EXECUTION_KEYS

    values: dict[str, dict[str, None]] = {}  # the distinct ones of each key, in order
    for job in jobs:
        for key, _, value in (override.partition("=") for override in job):
            values.setdefault(key.lstrip("+"), {})[value.strip("'\"")] = None
    added = [
        override.key_or_group
        for override in typed
        if matters(override.key_or_group) and override.key_or_group != "experiment"
    ]
    experiment = config.hydra.runtime.choices.experiment
    if experiment and not added:
        return str(experiment)
    heads = [experiment] if experiment else []
    for group in () if experiment else ("algo", "env"):
        heads.append("+".join(values.get(group, [config.hydra.runtime.choices[group]])))
    parts = [
        key.rpartition(".")[2] + "+".join(values[key])
        for key in values
        if key in added and key not in ("algo", "env")
        if len(values[key]) > 1 or key in ("M", "beta", "seed")
    ]
    slugs = [re.sub(r"[^\w.+-]+", "-", part)[:MAX_PART_LENGTH] for part in [*heads, *parts]]
    kept = [sorted(o for o in job if matters(o.partition("=")[0].lstrip("+"))) for job in jobs]
    digest = hashlib.sha256(json.dumps(sorted(kept)).encode()).hexdigest()[:8]
    return "_".join(slugs)[:MAX_NAME_LENGTH] + f"_{digest}"
