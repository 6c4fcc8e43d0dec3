"""`python -m lom_exp.watch results/runs/<run>`: watch what a run has learned to do.

Its policy plays episodes as evaluation does, in the same environments; a film (GIF) and a contact
sheet (PNG) of them are drawn afterwards.
"""

import argparse
import io
import logging
import math
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import track

from lom_exp import envs, trained
from lom_exp.envs import Environments, Stepped, rendering
from lom_exp.envs.rendering import Camera, State
from lom_exp.errors import ConfigError, LomExpError
from lom_exp.evaluation import Episodes, episode_seeds, evaluate, score
from lom_exp.files import write_atomically
from lom_exp.trained import TrainedRun

log = logging.getLogger(__name__)

FRAME = 0.05  # s of the film, which a frame is shown for at least
LONGEST = 15.0  # s of the film, unless a speed is given
LAST = 1.0  # s for which the last frame stays
SHEET_COLUMNS = 6  # moments of each episode on the contact sheet
FILM_COLUMNS = 4  # episodes side by side in the film
_INK, _GRAY, _PAPER = (34, 34, 34), (120, 120, 120), (255, 255, 255)
_GAP, _LINE, _MARGIN, _LABELS = 8, 20, 24, 190  # pixels


class Moment(NamedTuple):
    """One environment after some step of its episode."""

    state: State
    observation: NDArray[np.float64]  # (O,)
    earned: float  # the return so far


class Episode(NamedTuple):
    """What happened in an environment, from its reset on."""

    seed: int
    moments: list[Moment]
    ends: list[str]  # how it ended, once it has


class Recorder:
    """Environments that remember what happens in them; the states are the camera's."""

    def __init__(self, environments: Environments, camera: Camera) -> None:
        self._environments, self._camera = environments, camera
        self.observation_dim = environments.observation_dim
        self.action_dim = environments.action_dim
        self.horizon = environments.horizon
        self.episodes: list[Episode] = []

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Start an episode in each environment; the observations (E, O)."""
        observations = self._environments.reset(seeds)
        self.episodes = [
            Episode(seed, [Moment(self._camera.state(index), observations[index].copy(), 0.0)], [])
            for index, seed in enumerate(seeds)
        ]
        return observations

    def step(self, indices: NDArray[np.intp], actions: NDArray[np.float32]) -> Stepped:
        """Step the environments `indices` (n,) with `actions` (n, A)."""
        stepped = self._environments.step(indices, actions)
        for row, index in enumerate(indices.tolist()):
            _, moments, ends = self.episodes[index]
            earned = moments[-1].earned + float(stepped.rewards[row])
            moments.append(Moment(self._camera.state(index), stepped.observations[row], earned))
            if stepped.terminations[row] or stepped.truncations[row]:
                ends.append("terminated" if stepped.terminations[row] else "time limit")
        return stepped


def play(run: TrainedRun, environments: Environments, seeds: Sequence[int]) -> Episodes:
    """One episode from each seed; with `default_seeds` those of the run's own evaluation."""
    policy = run.policy(len(seeds), environments.horizon)
    return evaluate(policy, environments, np.array([seeds]))


def default_seeds(run: TrainedRun, count: int) -> list[int]:
    """The seeds of the first episodes that the run was, or would be, evaluated with now."""
    return episode_seeds(run.spec.seed, run.step, count)


class Artist:
    """Draws recorded episodes: one picture for each moment, with what happened until then."""

    def __init__(self, run: TrainedRun, played: Episodes, recorder: Recorder, camera: Camera):
        env, self._camera = run.spec.env, camera
        self._episodes = recorder.episodes
        self._returns, self._lengths = played.returns[0], played.lengths[0]
        self._scores = score(self._returns, env.random_return, env.expert_return)
        self._traced = camera.traced  # of an observation: what leaves a trace
        settings = [("M", run.spec.M), ("beta", run.spec.beta), ("seed", run.spec.seed)]
        named = [f"{name} {value:g}" for name, value in settings if value is not None]
        self._title = "  ·  ".join([run.spec.label, env.name, *named])
        total = sum(run.spec.updates.values())
        self._subtitle = (
            f"{env.environment} after {run.step:,} of {total:,} updates  ·  mean return "
            f"{self._returns.mean():.1f}, score {self._scores.mean():.1f}"
        )
        # An episode that is over is in every later frame: there may be as many as episodes.
        self._picture = lru_cache(len(self._episodes) + 1)(self._draw)

    def _draw(self, index: int, step: int) -> Image.Image:
        moments = self._episodes[index].moments[: step + 1]
        path = [each.observation[self._traced] for each in moments] if self._traced else []
        return Image.fromarray(self._camera.draw(moments[-1].state, path))

    def _caption(self, index: int, step: int) -> tuple[str, str]:
        moment = self._episodes[index].moments[step]
        return f"{step * self._camera.seconds:.2f} s", f"return {moment.earned:.1f}"

    def film(self, speed: float | None) -> bytes:
        """A GIF of all episodes side by side, at `speed` times real time."""
        longest, seconds = int(self._lengths.max()), self._camera.seconds
        if speed is None:
            speed = max(1.0, longest * seconds / LONGEST)
        stride = max(1, round(speed * FRAME / seconds))  # steps from one frame to the next
        steps = [min(frame * stride, longest) for frame in range(math.ceil(longest / stride) + 1)]
        # In hundredths of a second, GIF's unit.
        duration = 10 * max(2, round(100 * stride * seconds / speed))
        durations = [duration] * (len(steps) - 1) + [duration + int(1000 * LAST)]
        console = Console(stderr=True)
        # One palette for all, or still parts would flicker; from frames far from each other.
        some = np.hstack(
            [np.asarray(self._frame(step)) for step in steps[:: max(1, len(steps) // 5)]]
        )
        palette = Image.fromarray(some).quantize(256, Image.Quantize.MEDIANCUT)
        first, *rest = (
            self._frame(step).quantize(palette=palette, dither=Image.Dither.NONE)
            for step in track(steps, "Drawing the film", console=console)
        )
        buffer = io.BytesIO()
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)
        return buffer.getvalue()

    def _frame(self, step: int) -> Image.Image:
        """All episodes at one time, those that are over as they ended."""
        width, height = self._picture(0, 0).size
        columns = min(FILM_COLUMNS, len(self._episodes))
        rows = math.ceil(len(self._episodes) / columns)
        across, down = width + _GAP, height + _LINE + _GAP
        frame = Image.new("RGB", (columns * across + _GAP, rows * down + _LINE + _GAP), _PAPER)
        canvas = ImageDraw.Draw(frame)
        canvas.text((_GAP, _GAP // 2), self._title, _INK, _font(14))
        for index, length in enumerate(self._lengths.tolist()):
            x, y = _GAP + index % columns * across, _LINE + _GAP + index // columns * down
            shown = min(step, length)
            picture = self._picture(index, shown)
            if step > length:
                picture = Image.blend(picture, Image.new("RGB", picture.size, _PAPER), 0.5)
            frame.paste(picture, (x, y))
            time, earned = self._caption(index, shown)
            played = f"seed {self._episodes[index].seed}   {time}   {self._end(index, step)}"
            canvas.text((x, y + height + 2), played, _GRAY, _font(12))
            canvas.text((x + width, y + height + 2), earned, _INK, _font(12), anchor="ra")
        return frame

    def _end(self, index: int, step: int) -> str:
        ends = self._episodes[index].ends
        return ends[0] if ends and step >= self._lengths[index] else ""

    def contact_sheet(self) -> bytes:
        """A PNG with a row for each episode: moments of it, evenly spread over its length."""
        width, height = self._picture(0, 0).size
        across, down = width + _GAP, height + _LINE + 2 * _GAP
        top = _MARGIN + 60
        size = (
            2 * _MARGIN + _LABELS + SHEET_COLUMNS * across - _GAP,
            top + len(self._episodes) * down + _MARGIN - _GAP,
        )
        sheet = Image.new("RGB", size, _PAPER)
        canvas = ImageDraw.Draw(sheet)
        canvas.text((_MARGIN, _MARGIN - 6), self._title, _INK, _font(22))
        canvas.text((_MARGIN, _MARGIN + 24), self._subtitle, _GRAY, _font(15))
        for index, length in enumerate(self._lengths.tolist()):
            y = top + index * down
            self._label(canvas, index, y)
            for column, step in enumerate(np.linspace(0, length, SHEET_COLUMNS).round().tolist()):
                x = _MARGIN + _LABELS + column * across
                sheet.paste(self._picture(index, int(step)), (x, y))
                time, earned = self._caption(index, int(step))
                canvas.text((x, y + height + 3), time, _GRAY, _font(13))
                canvas.text((x + width, y + height + 3), earned, _GRAY, _font(13), anchor="ra")
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def _label(self, canvas: ImageDraw.ImageDraw, index: int, y: int) -> None:
        """What an episode came to, beside its row."""
        episode, length = self._episodes[index], int(self._lengths[index])
        canvas.text((_MARGIN, y), f"return {self._returns[index]:.1f}", _INK, _font(19))
        lines = (
            f"score {self._scores[index]:.1f}",
            f"{length} steps, {length * self._camera.seconds:.2f} s",
            self._end(index, length),
            f"seed {episode.seed}",
        )
        for number, line in enumerate(lines):
            canvas.text((_MARGIN, y + 32 + 22 * number), line, _GRAY, _font(15))

    def report(self) -> Iterator[str]:
        """A line for the film as a whole and one for each episode."""
        yield f"{self._title}\n{self._subtitle}"
        for episode, value, points, length in zip(
            self._episodes, self._returns, self._scores, self._lengths, strict=True
        ):
            end = episode.ends[0] if episode.ends else "an action was not finite"
            yield (
                f"  seed {episode.seed:<11} return {value:<12.6f} score {points:<8.2f} "
                f"{length} steps, {end}"
            )


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not all(240 <= int(number) <= 2048 for number in match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size from 240x240 to 2048x2048")
    return int(match[1]), int(match[2])


def _count(text: str) -> int:
    if not re.fullmatch(r"\d+", text) or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100")
    return int(text)


def _seed(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 0")
    return int(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0.01 <= speed <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0.01 to 100")
    return speed


def _check_output(path: Path) -> None:
    if path.suffix.lower() != ".gif":
        raise ConfigError(f"--output {path} must end in .gif: films are GIFs, which need no codec")
    if not path.parent.is_dir():
        raise ConfigError(f"--output {path}: there is no folder {path.parent}; make it first")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lom_exp.watch",
        description="Watch a trained run: its newest checkpoint plays episodes as in evaluation; "
        "they are drawn as a film (GIF) and as a contact sheet (PNG) beside it.",
        epilog="Without --seed these are the first episodes of the run's evaluation at that "
        "checkpoint: on a CPU their returns equal those in its evaluations.jsonl; a run that was "
        "trained on a GPU may differ by rounding, which grows in time. A run still in training "
        f"may be watched, too. Drawing needs EGL (Debian: {rendering.PACKAGES}) but no display; "
        "training does not need it.",
    )
    parser.add_argument("run", type=Path, help="its folder: results/runs/<run>")
    parser.add_argument(
        "--episodes", type=_count, default=3, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--seed", type=_seed, help="start the episodes from SEED, SEED + 1, ...; default: as above"
    )
    parser.add_argument(
        "--size",
        type=_size,
        default=(320, 240),
        metavar="WxH",
        help="pixels of one episode's picture; default: 320x240",
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        help="of the film: 1 is real time, 0.25 slow motion; default: real time, or faster where "
        f"the film would be longer than {LONGEST:g} s",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.gif", help="default: watch.gif in the run's folder"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when film and contact sheet are written, 2 for a wrong use or where they cannot be."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    log.setLevel(logging.INFO)  # PyOpenGL logs at that level, too, and is not wanted
    film = options.output or options.run / "watch.gif"
    try:
        run = trained.load(options.run)
        _check_output(film)
        rendering.prepare()
        seeds = default_seeds(run, options.episodes)
        if options.seed is not None:
            seeds = [options.seed + number for number in range(options.episodes)]
        environments = envs.make(run.spec.env.environment, len(seeds))
        camera = Camera(environments, *options.size)
        try:
            recorder = Recorder(environments, camera)
            artist = Artist(run, play(run, recorder, seeds), recorder, camera)
            for line in artist.report():
                log.info("%s", line)
            sheet = film.with_suffix(".png")
            write_atomically(sheet, artist.contact_sheet())
            write_atomically(film, artist.film(options.speed))
        finally:
            camera.close()
    except LomExpError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"cannot write {film} and its contact sheet: {error}; give another --output")
    log.info("%s\n%s", sheet, film)
    return 0


if __name__ == "__main__":
    sys.exit(main())
