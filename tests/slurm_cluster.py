"""A real Slurm of two nodes on this machine, for tests: only its GPUs are made up.

A cluster shares nothing with another one or with a Slurm of the machine's own: it has its own
folder, ports, munged and, with accounting, database. The fixtures `cluster` and `accounting` give
a test one that is idle, with SLURM_CONF set so that every command finds it; where Slurm cannot run
they skip the test and say why.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NODES = ("n1", "n2")
GPUS = 4  # of each node, and 16 shards of them
MAX_FOLDER_LENGTH = 70  # a unix socket's path has at most 107 characters
SECONDS_TO_START = 30.0
SECONDS_TO_END = 30.0
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
ACCOUNTING_PROGRAMS = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb-install-db")
OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}


def obstacle(accounting: bool = False) -> str | None:
    """Why no cluster can run on this machine; None where it can."""
    missing = [
        name for name in PROGRAMS + ACCOUNTING_PROGRAMS * accounting if not shutil.which(name)
    ]
    if missing:
        packages = "slurm-wlm munge" + " slurmdbd mariadb-server" * accounting
        return f"no {', '.join(missing)} on PATH: apt-get install {packages}"
    if os.geteuid() != 0:
        return "a slurmd that starts jobs must be root"
    return None


def _start(folder: Path, accounting: bool) -> "Cluster":
    reason = obstacle(accounting)
    if reason:
        pytest.skip(f"needs a real Slurm: {reason}")
    return Cluster(folder, accounting)


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Cluster"]:
    with _start(tmp_path_factory.mktemp("slurm"), accounting=False) as started:
        yield started


@pytest.fixture(scope="session")
def running_accounting(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Cluster"]:
    with _start(tmp_path_factory.mktemp("slurm"), accounting=True) as started:
        yield started


@pytest.fixture
def cluster(running_cluster: "Cluster", monkeypatch: pytest.MonkeyPatch) -> Iterator["Cluster"]:
    """An idle cluster without accounting: its sacct answers only that it is disabled."""
    monkeypatch.setenv("SLURM_CONF", str(running_cluster.conf))
    yield running_cluster
    running_cluster.clear()


@pytest.fixture
def accounting(
    running_accounting: "Cluster", monkeypatch: pytest.MonkeyPatch
) -> Iterator["Cluster"]:
    """An idle cluster with a database: sacct works, and limits of users and QOS hold."""
    monkeypatch.setenv("SLURM_CONF", str(running_accounting.conf))
    yield running_accounting
    running_accounting.clear()


class Cluster:
    """A context manager: a Slurm that lives in `folder`, with keywords of slurm.conf changed.

    Partitions: main (the default; its jobs preempt those of the others), low (a preempted job is
    warned 20 s ahead) and low0 (it is not). Nothing survives the end of the test process, however
    that comes about: neither daemons nor jobs.
    """

    def __init__(self, folder: Path, accounting: bool = False, **options: object) -> None:
        if len(str(folder)) > MAX_FOLDER_LENGTH:
            raise ValueError(f"{folder} is too long a path for the unix sockets in it")
        self.folder, self.accounting, self.options = folder, accounting, options
        self.conf = folder / "etc" / "slurm.conf"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.claims: list[socket.socket] = []

    @property
    def env(self) -> dict[str, str]:
        """The environment of a command that is to find this cluster, as SLURM_CONF alone does."""
        inherited = {key: os.environ[key] for key in os.environ if not key.startswith("SLURM_")}
        return inherited | {"SLURM_CONF": str(self.conf)}

    # ------------------------------------------------------------------ start and stop

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all daemons and wait until both nodes take jobs (1 s, with accounting 4 s)."""
        self.warden = subprocess.Popen(
            [sys.executable, __file__, str(self.folder)], stdin=subprocess.PIPE, process_group=0
        )
        self._write_files()
        socket_path = self.folder / "munge.socket"
        files = {"socket": socket_path} | {
            f"{name}-file": self.folder / f"munge.{name}" for name in ("key", "log", "pid", "seed")
        }
        # Forced, because it would have the socket's folder open to users other than root.
        arguments = [f"--{option}={path}" for option, path in files.items()]
        self._spawn("munged", "munged", "--foreground", "--force", *arguments)
        self.wait_until(socket_path.exists, "munged to listen")
        if self.accounting:
            self._start_database()
        self.start_slurmctld()
        for node in NODES:
            self.start_slurmd(node)
        self.wait_until(lambda: self._idle() == set(NODES), "both nodes to be idle")

    def stop(self) -> None:
        """End every process of the cluster, its jobs' too, and wait for them."""
        assert self.warden.stdin is not None
        self.warden.stdin.close()
        self.warden.wait(SECONDS_TO_END)
        for daemon in self.daemons.values():
            daemon.wait(SECONDS_TO_END)
        for claim in self.claims:
            claim.close()

    def start_slurmctld(self, forget_jobs: bool = False) -> None:
        """Start the controller, which recovers what it knew unless it is to forget it."""
        self._spawn("slurmctld", "slurmctld", "-D", *["-c"] * forget_jobs)

    def stop_slurmctld(self) -> None:
        """Stop the controller in good order, so that it can recover its state."""
        self.daemons["slurmctld"].terminate()
        self.daemons["slurmctld"].wait(SECONDS_TO_END)

    def start_slurmd(self, node: str) -> None:
        """Start a node's daemon; as it registers, a node that was down comes back."""
        self._spawn(node, "slurmd", "-D", "-N", node)

    def kill_slurmd(self, node: str, with_jobs: bool) -> None:
        """Kill a node's daemon; with its jobs it is as if the node had lost its power."""
        self.daemons[node].kill()
        self.daemons[node].wait(SECONDS_TO_END)
        if with_jobs:
            _end(lambda: processes(self.folder, node))

    def set_down(self, node: str) -> None:
        """What an administrator does with a node that no longer answers: its jobs are lost."""
        self.command("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def clear(self) -> None:
        """Cancel all jobs, bring back all that a test took down and wait until all is idle."""
        if self.daemons["slurmctld"].poll() is not None:
            self.start_slurmctld()
        self.wait_until(lambda: self._succeeds("scontrol", "ping"), "the controller to answer")
        self.command("scancel", f"--user={os.geteuid()}")
        for node in NODES:
            if self.daemons[node].poll() is not None:
                _end(lambda node=node: processes(self.folder, node))
                self.start_slurmd(node)
        self.wait_until(lambda: set(self.jobs().values()) <= OVER, "all jobs to end")
        for node in set(NODES) - self._idle():
            self._succeeds("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self.wait_until(lambda: self._idle() == set(NODES), "both nodes to be idle")

    # ------------------------------------------------------------------ jobs

    def command(self, *words: object) -> str:
        """The standard output of one of Slurm's commands, which must not fail."""
        done = subprocess.run(list(map(str, words)), env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr}{done.stdout}")
        return done.stdout.strip()

    def submit(self, script: str, *options: object) -> str:
        """The id of a job that runs shell commands, with output in `out/<job>.txt`."""
        output = f"--output={self.folder}/out/{'%A_%a' if _is_array(options) else '%j'}.txt"
        words = ("sbatch", "--parsable", output, "--time=10", *options, "--wrap", script)
        return self.command(*words)

    def jobs(self) -> dict[str, str]:
        """State of each job and array task that the controller knows, ended ones included."""
        rows = self.command("squeue", "-h", "-r", "-a", "-t", "all", "-o", "%i %T").splitlines()
        return dict(row.split() for row in rows)

    def show(self, job: str) -> dict[str, str]:
        """The fields of `scontrol show job`: JobState, NodeList, Restarts, ExitCode, ..."""
        words = self.command("scontrol", "show", "job", "-o", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for(self, job: str, *states: str, timeout: float = 30.0) -> str:
        """Wait until the job is in one of the states; returns it."""
        self.wait_until(lambda: self.jobs().get(job) in states, f"{job} to be {states}", timeout)
        return self.jobs()[job]

    def wait_until(
        self, condition: Callable[[], bool], what: str, timeout: float = SECONDS_TO_START
    ) -> None:
        """Wait for a condition; TimeoutError with the ends of all logs if it does not come."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {timeout:g} s\n{self._last_words()}")
            time.sleep(0.05)

    # ------------------------------------------------------------------ within

    def _spawn(self, name: str, *command: str) -> None:
        """Start a daemon in a folder of its own, by which the processes it makes are known."""
        work = self.folder / name
        work.mkdir(exist_ok=True)
        with (work / "output.txt").open("ab") as output:
            self.daemons[name] = subprocess.Popen(
                command,
                cwd=work,
                env=self.env | {"MYSQL_UNIX_PORT": str(self.folder / "mariadb.socket")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # Ctrl-C is for the tests, which then stop the cluster
            )

    def _start_database(self) -> None:
        data, socket_path = self.folder / "data", self.folder / "mariadb.socket"
        self.command(
            *("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        )
        self._spawn(
            *("mariadbd", "mariadbd", "--no-defaults", f"--datadir={data}", "--user=root"),
            *(f"--socket={socket_path}", "--skip-networking", "--skip-grant-tables"),
            "--innodb-flush-log-at-trx-commit=0",
        )
        self.wait_until(socket_path.exists, "mariadbd to listen")
        self._spawn("slurmdbd", "slurmdbd", "-D")
        self.wait_until(
            lambda: self._succeeds("sacctmgr", "-n", "list", "cluster"), "slurmdbd to listen"
        )
        self.command("sacctmgr", "-i", "add", "cluster", "test")

    def _succeeds(self, *words: str) -> bool:
        try:
            self.command(*words)
        except RuntimeError:
            return False
        return True

    def _idle(self) -> set[str]:
        try:
            rows = self.command("sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N %T")
        except RuntimeError:  # the controller is not there yet
            return set()
        return {node for node, state in map(str.split, rows.splitlines()) if state == "idle"}

    def _last_words(self) -> str:
        """The ends of all logs, to see why something did not happen."""
        logs = sorted(self.folder.glob("*/output.txt"))
        texts = [(log, log.read_text(errors="replace")[-1000:]) for log in logs]
        return "\n".join(f"--- {log}\n{text}" for log, text in texts if text)

    def _write_files(self) -> None:
        """Everything that the daemons read."""
        for name in ("etc", "state", "dev", "out"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(64))
        for index in range(GPUS):  # of a plain file Slurm makes no CUDA_VISIBLE_DEVICES
            (self.folder / "dev" / f"gpu{index}").symlink_to("/dev/null")
        self.claims = [claim_port() for _ in range(4)]
        controller, *nodes, database = (claim.getsockname()[1] for claim in self.claims)
        lines = [f"{key}={value}" for key, value in self._settings(controller, database).items()]
        host = socket.gethostname().split(".")[0]
        lines += [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 "
            f"RealMemory=8000 Gres=gpu:fake:{GPUS},shard:{4 * GPUS}"
            for node, port in zip(NODES, nodes, strict=True)
        ]
        partition = f"Nodes={','.join(NODES)} MaxTime=1-0 DefaultTime=10 State=UP"
        lines += [
            f"PartitionName=main {partition} Default=YES PriorityTier=10 PreemptMode=OFF",
            f"PartitionName=low {partition} PriorityTier=1 PreemptMode=REQUEUE GraceTime=20",
            f"PartitionName=low0 {partition} PriorityTier=1 PreemptMode=REQUEUE GraceTime=0",
        ]
        self.conf.write_text("\n".join(lines) + "\n")
        (self.conf.parent / "gres.conf").write_text(
            "AutoDetect=off\n"
            f"NodeName={','.join(NODES)} Name=gpu Type=fake "
            f"File={self.folder}/dev/gpu[0-{GPUS - 1}]\n"
            f"NodeName={','.join(NODES)} Name=shard Count={4 * GPUS}\n"
        )
        (self.conf.parent / "cgroup.conf").write_text(
            "CgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n"
        )
        slurmdbd = self.conf.parent / "slurmdbd.conf"
        slurmdbd.touch(mode=0o600)
        slurmdbd.write_text(
            "AuthType=auth/munge\n"
            f"AuthInfo=socket={self.folder}/munge.socket\n"
            "DbdHost=localhost\n"
            f"DbdPort={database}\n"
            "SlurmUser=root\n"
            "StorageType=accounting_storage/mysql\n"
            "StorageHost=localhost\n"
            "StorageUser=root\n"
            "StorageLoc=slurm\n"
            f"PidFile={self.folder}/slurmdbd.pid\n"
            f"LogFile={self.folder}/slurmdbd.log\n"
        )

    def _settings(self, controller_port: int, database_port: int) -> dict[str, object]:
        munge = f"socket={self.folder}/munge.socket"
        settings: dict[str, object] = {
            "ClusterName": "test",
            "SlurmctldHost": "localhost(127.0.0.1)",
            "SlurmUser": "root",
            "SlurmdUser": "root",
            "AuthType": "auth/munge",
            # A requeued job may start again when its credential has expired, by default in 120 s.
            "AuthInfo": f"cred_expire=5,{munge}",
            "SlurmctldPort": controller_port,
            "SlurmctldPidFile": f"{self.folder}/slurmctld.pid",
            "SlurmdPidFile": f"{self.folder}/slurmd.%n.pid",
            "StateSaveLocation": f"{self.folder}/state",
            "SlurmdSpoolDir": f"{self.folder}/spool.%n",
            "SlurmctldLogFile": f"{self.folder}/slurmctld.log",
            "SlurmdLogFile": f"{self.folder}/slurmd.%n.log",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SwitchType": "switch/none",
            "MpiDefault": "none",
            "ReturnToService": 2,
            "SchedulerType": "sched/backfill",
            "SchedulerParameters": "sched_interval=1,bf_interval=1,batch_sched_delay=0,"
            "sched_min_interval=0",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU_Memory",
            "DefMemPerCPU": 100,
            "GresTypes": "gpu,shard",
            "SlurmdParameters": "config_overrides",
            "SlurmctldParameters": "preempt_send_user_signal",
            "PreemptType": "preempt/partition_prio",
            "PreemptMode": "REQUEUE",
            "JobRequeue": 1,
            "MinJobAge": 86400,
            "MaxArraySize": 1001,
            "KillWait": 2,
            "InactiveLimit": 0,
            "SlurmctldTimeout": 10,
            "SlurmdTimeout": 10,  # a node is given up 20 s after it died
            "MessageTimeout": 5,
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
        }
        if self.accounting:
            settings |= {
                "AccountingStorageType": "accounting_storage/slurmdbd",
                "AccountingStorageHost": "localhost",
                "AccountingStoragePort": database_port,
                "AccountingStoragePass": f"{self.folder}/munge.socket",
                "AccountingStorageEnforce": "associations,limits,qos",
            }
        return settings | self.options


def _is_array(options: tuple[object, ...]) -> bool:
    return any(str(option).startswith(("--array", "-a")) for option in options)


def claim_port() -> socket.socket:
    """A UDP socket, whose number is free as a TCP port and stays so while the socket lives.

    Every cluster claims its ports this way, so that two can start at once; the numbers are below
    those that outgoing connections are given.
    """
    for port in random.sample(range(17000, 30000), 1000):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            try:
                claim.bind(("127.0.0.1", port))
                listener.bind(("", port))
            except OSError:
                claim.close()
                continue
        return claim
    raise RuntimeError("no free port between 17000 and 30000")


def processes(folder: Path, node: str | None = None) -> list[int]:
    """Ids of the living processes of the cluster in `folder`, or of one of its nodes.

    A daemon, and what it makes, is known by its working directory, a job's process by its
    environment, whichever process group or parent it has by now.
    """
    work = folder / (node or "")
    marks = {f"SLURM_CONF={folder}/etc/slurm.conf".encode()}
    marks |= {f"SLURMD_NODENAME={node}".encode()} if node else set()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is a zombie
            directory = Path(os.readlink(process / "cwd"))
            environment = set((process / "environ").read_bytes().split(b"\0"))
            if directory.is_relative_to(work) or marks <= environment:
                found.append(int(process.name))
    return found


def _end(find: Callable[[], list[int]]) -> None:
    """Kill processes until none is found, as those killed may have forked."""
    while found := find():
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


if __name__ == "__main__":
    # The warden of one cluster: its input ends when the test process stops the cluster, but also
    # when that process is killed.
    sys.stdin.read()
    _end(lambda: processes(Path(sys.argv[1])))
