"""Results folders made by hand, for the tests of `analysis`."""

import json
from pathlib import Path

import yaml

RANDOM, EXPERT = -20.0, 180.0  # a return R scores (R + 20) / 2


class ResultsFolder:
    """A results folder in the making."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "runs").mkdir(parents=True)

    def add(
        self,
        M: int | None,
        seed: int,
        evaluations: list[list[float]],
        *,
        label: str = "lom",
        env: str = "hopper-medium-replay",
        beta: float | None = 5.0,
        status: str = "finished",
        error: str | None = None,
        provenance: str = "collected",
        sha256: str = "ab" * 32,
        every: int = 1000,
        config: dict[str, object] | None = None,
        metrics: dict[str, list[float]] | None = None,
        final: list[float] | None = None,
        sources: dict[str, str] | None = None,
        final_rewards: list[float] | None = None,
    ) -> str:
        """Write a run with one score per episode of each evaluation; returns the folder's name.

        `final_rewards` are those of every regular evaluation; None: not recorded.
        """
        changed = "".join(f"{key}{value}" for key, value in (config or {}).items())
        name = f"{label}_{env}_M{M}_beta{beta}_seed{seed}_{changed or '0000'}"
        folder = self.path / "runs" / name
        folder.mkdir()
        settings = {
            "label": label,
            "M": M,
            "beta": beta,
            "seed": seed,
            "algo": {"tau": 0.005, "num_components": M},
            "updates": {"behavior": 500, "policy": 10 * every},
            "env": {"name": env, "random_return": RANDOM, "expert_return": EXPERT},
            "tracking": {"uri": None},
        }
        settings["algo"] |= config or {}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        dataset = {"provenance": provenance, "sha256": sha256, "mean_episode_return": 60.0}
        dataset["rows"] = 40_000
        record = {
            "algorithm": "lom", "label": label, "env": env, "M": M, "beta": beta, "seed": seed,
            "dataset": dataset, "sources": sources or {},
        }  # fmt: skip
        (folder / "record.json").write_text(json.dumps(record))
        lines = [
            evaluation(every * index, episode_scores, final_rewards=final_rewards)
            for index, episode_scores in enumerate(evaluations, start=1)
        ]
        update = every * len(evaluations)
        if final:
            lines.append(evaluation(update, final, final=True))
        (folder / "evaluations.jsonl").write_text("".join(lines))
        (folder / "metrics.jsonl").write_text(
            "".join(
                json.dumps(
                    {"phase": "policy", "update": 100 * index, "step": 500 + 100 * index}
                    | {"metrics": dict(zip(metrics, values, strict=True))}
                )
                + "\n"
                for index, values in enumerate(zip(*metrics.values(), strict=True), start=1)
            )
            if metrics
            else ""
        )
        (folder / "status.json").write_text(
            json.dumps({"status": status, "phase": "policy", "update": update, "error": error})
        )
        return name

    def sweep(self, names: list[str], name: str = "main", time: float = 1.0) -> Path:
        """Write a sweep over runs; returns its folder."""
        folder = self.path / "sweeps" / name
        folder.mkdir(parents=True)
        command = ["python", "launch.py", "-m", "M=2,5"]
        content = {"name": name, "command": command, "runs": names, "time": time}
        (folder / "sweep.json").write_text(json.dumps(content))
        return folder


def evaluation(
    update: int,
    episode_scores: list[float],
    *,
    final: bool = False,
    final_rewards: list[float] | None = None,
) -> str:
    returns = [2 * score - 20 for score in episode_scores]
    entry = {
        "phase": "policy", "update": update, "step": 500 + update, "time": 0.0, "final": final,
        "returns": returns, "lengths": [100] * len(returns), "scores": episode_scores,
    }  # fmt: skip
    if final_rewards is not None:
        entry["final_rewards"] = final_rewards
    return json.dumps(entry) + "\n"
