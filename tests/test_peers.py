"""benchmarks/peers.py: peers that are missing are named, work is equal, ratios are of one round."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lom_exp.algorithms import REGISTRY

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

# CORL's AWAC in miniature: it writes down what it was made with and asked for.
FAKE_AWAC = """
import d4rl, gym, wandb
import pyrallis
import torch

class ReplayBuffer:
    def __init__(self, state_dim, action_dim, buffer_size, device):
        print("sizes", state_dim, action_dim, buffer_size)
    def load_d4rl_dataset(self, data):
        self.data = {k: torch.from_numpy(v) for k, v in data.items()}
    def sample(self, batch_size):
        assert batch_size == 256
        return [field[:batch_size] for field in self.data.values()]

class Actor(torch.nn.Linear):
    def __init__(self, state_dim, action_dim, hidden_dim):
        super().__init__(state_dim, hidden_dim)

class Critic(torch.nn.Linear):
    def __init__(self, state_dim, action_dim, hidden_dim):
        super().__init__(state_dim + action_dim, hidden_dim)

class AdvantageWeightedActorCritic:
    def __init__(self, *networks):
        pass
    def update(self, batch):
        assert [len(field) for field in batch] == [256] * 5
        AFTER

def set_seed(seed, env: gym.Env = None):
    torch.manual_seed(seed)

@pyrallis.wrap()
def train(config):
    gym.make("Hopper").wrapped(d4rl, wandb)
"""


@pytest.fixture
def peers(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("peers_script", BENCHMARKS / "peers.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "peers_script", module)
    spec.loader.exec_module(module)
    return module


def case(peers, **changes):
    arguments = peers.parse(["awac", "--runs", "1"])
    return next(iter(peers.cases(arguments)))._replace(**changes)


def corl(tmp_path, after):
    folder = tmp_path / "corl"
    (folder / "algorithms" / "offline").mkdir(parents=True)
    file = folder / "algorithms" / "offline" / "awac.py"
    file.write_text(FAKE_AWAC.replace("AFTER", after))
    return folder


def run(*arguments):
    command = [sys.executable, str(BENCHMARKS / "peers.py"), *map(str, arguments)]
    command += ["--no-compile", "--rounds", "2", "--seconds", "0.01", "--runs", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_a_peer_is_timed_beside_ours_with_equal_sizes(tmp_path):
    folder = corl(tmp_path, "return {}")
    (folder / "COMMIT").write_text("0123abc\n")
    file = tmp_path / "kept.json"
    done = run("awac", "--corl", folder, "--json", file)
    kept = json.loads(file.read_text())
    assert kept["commits"] == {"corl": "0123abc"}
    [made] = kept["cases"]
    assert made["case"]["hidden_sizes"] == [256, 256, 256]
    assert {name: len(rounds) for name, rounds in made["rounds"].items()} == {"ours": 2, "corl": 2}
    # One layer each: its actor 11 -> 256 and its two critics 11 + 3 -> 256, with their biases.
    assert made["made"]["corl"]["parameters"] == 12 * 256 + 2 * 15 * 256
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| awac")]
    assert [row[3] for row in rows] == ["ours", "corl"]
    assert rows[1][-1].startswith("1: missed, 0.")  # a peer that does nothing is the faster one


@pytest.mark.slow
def test_a_peer_that_fails_is_named_with_the_reason_and_ours_is_timed(tmp_path):
    done = run("awac", "--corl", corl(tmp_path, "raise ValueError('not today')"))
    assert "awac, policy, 1 runs: corl: ValueError: not today" in done.stderr
    assert "| ours |" in done.stdout
    assert "| corl |" not in done.stdout


def test_a_file_that_a_peer_lacks_is_named(peers, tmp_path):
    from contestants import stand_ins

    missing = tmp_path / "algos" / "iql.py"
    with pytest.raises(FileNotFoundError, match=f"{missing} does not exist"):
        stand_ins.load(str(tmp_path), "algos/iql.py")


@pytest.mark.slow
def test_a_process_that_dies_is_reported_by_its_last_words(peers, tmp_path):
    folder = corl(tmp_path, "import os, sys; sys.stderr.write('so long\\n'); os._exit(3)")
    worker = peers.Worker("corl", str(folder), case(peers))
    with pytest.raises(peers.Failed, match="its process ended: so long"):
        worker.start()
    worker.stop()


def test_ratios_pair_the_turns_of_a_round(peers):
    # The machine slows down to a third in the second round; the peer always takes twice as long.
    assert peers.ratios([2.0, 6.0, 4.0], [1.0, 3.0, 2.0]) == [2.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="longer"):
        peers.ratios([1.0], [1.0, 2.0])


def test_time_is_of_the_cpu_on_a_cpu_and_of_the_wall_on_a_gpu_for_one_run(peers):
    turns = [peers.Round(updates=10, wall=8.0, cpu=2.0)]
    assert peers.milliseconds(turns, case(peers)) == [200.0]
    assert peers.milliseconds(turns, case(peers, device="cuda")) == [800.0]
    assert peers.milliseconds(turns, case(peers, device="cuda", runs=4)) == [200.0]


def test_a_target_is_met_by_the_better_of_our_modes(peers):
    found = [[1.0, 1.5, 9.0], [2.0, 2.5, 2.1]]
    assert peers.verdict("jax_corl", case(peers, device="cuda"), found) == "2: met"
    assert peers.verdict("corl", case(peers, device="cuda"), found) == "10: missed, 2.10"
    assert peers.verdict("corl", case(peers), found) == "1: met"
    assert peers.verdict("jax_corl", case(peers, device="cuda", runs=4), found) == ""


class Recorded:
    """A contestant that writes down the order of turns; fails at a given one."""

    def __init__(self, peers, name, turns, fails_at=None):
        self.peers, self.name, self.turns, self.fails_at = peers, name, turns, fails_at
        self.complaints = []

    def ask(self, request):
        self.turns.append(self.name)
        if self.turns.count(self.name) == self.fails_at:
            raise self.peers.Failed("out of memory")
        return {"updates": request["updates"], "wall": 0.1 * request["updates"], "cpu": 1.0}

    def complain(self, reason):
        self.complaints.append(str(reason))


def test_turns_alternate_and_last_as_long_for_all(peers):
    turns = []
    workers = [Recorded(peers, name, turns) for name in ("ours", "corl", "lom")]
    played = peers.play(workers, 2, seconds=3.0)
    trials = ["ours"] * 2 + ["corl"] * 2 + ["lom"] * 2  # of 2 updates, and of 8
    assert turns == [*trials, "ours", "corl", "lom", "lom", "corl", "ours"]
    assert {turn.updates for rounds in played.values() for turn in rounds} == {30}  # 0.1 s each


def test_a_contestant_that_fails_in_a_round_is_left_out_of_the_table(peers):
    turns = []
    workers = [Recorded(peers, "ours", turns), Recorded(peers, "corl", turns, fails_at=3)]
    played = peers.play(workers, 4, seconds=1.0)
    assert {name: len(rounds) for name, rounds in played.items()} == {"ours": 4}
    assert workers[1].complaints == ["out of memory"]


def test_our_configs_have_the_sizes_of_the_case_and_no_other(peers):
    from contestants import ours

    arguments = peers.parse(["--runs", "1"])
    for made in peers.cases(arguments):
        config = ours.config(made)
        default = REGISTRY[made.method].Config()
        if made.method == "lom":
            assert config == default, "the authors' sizes are our defaults"
        else:
            assert (config.batch_size, config.hidden_sizes) == (made.batch_size, made.hidden_sizes)
        changed = ours.config(made._replace(batch_size=17, hidden_sizes=(3, 5)))
        assert changed != config


def test_only_the_peers_of_a_method_are_asked(peers):
    asked = {
        (made.method, made.phase, made.runs): [n for n in peers.TARGETS if peers.suits(n, made)]
        for made in peers.cases(peers.parse([]))
    }
    assert asked["lom", "behavior", 1] == asked["lom", "policy", 1] == ["lom"]
    assert asked["cql", "policy", 1] == ["corl", "jax_corl", "d3rlpy"]
    assert asked["cql", "policy", 4] == ["jax_corl"]
    assert len(asked) == 2 + 4 + 4


def test_a_commit_is_that_of_the_folder_itself(peers, tmp_path):
    assert peers.commit(str(tmp_path)) == "unknown"
    (tmp_path / "COMMIT").write_text("abc\n")
    assert peers.commit(str(tmp_path)) == "abc"
    assert peers.commit(str(BENCHMARKS)) == "unknown"  # below a checkout's root is another's


def test_stand_ins_give_what_peers_touch_when_imported():
    program = (
        "import csv\n"
        "from contestants import stand_ins\n"
        "stand_ins.install('gym', 'pydantic', 'omegaconf', 'tqdm', 'pyrallis', 'd4rl', 'csv')\n"
        "from csv import reader\n"
        "assert reader is not csv.reader, 'a package imported before must be replaced, too'\n"
        "import gym, d4rl, pyrallis\n"
        "from gym.wrappers.time_limit import TimeLimit\n"
        "from pydantic import BaseModel\n"
        "from omegaconf import OmegaConf\n"
        "from tqdm import tqdm\n"
        "class Wrapped(gym.Wrapper[int], TimeLimit): ...\n"
        "class Config(BaseModel):\n"
        "    seed: int = 3\n"
        "    width: int = 256\n"
        "    def __hash__(self): return hash(repr(self))\n"
        "config = Config(seed=4, **OmegaConf.from_cli())\n"
        "assert (config.seed, config.width) == (4, 256)\n"
        "assert hash(config) != hash(Config()) and hash(config) == hash(Config(seed=4))\n"
        "assert pyrallis.wrap()(len) is len\n"
        "assert list(tqdm(range(200000))) == []\n"
        "try:\n"
        "    import wandb_of_no_one\n"
        "except ModuleNotFoundError:\n"
        "    pass\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=BENCHMARKS)
