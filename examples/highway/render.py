"""An animated SVG of a recorded drive: ``python -m examples.highway.render DRIVE.json OUT.svg --begin 0 --end 10``.

The road moves under our car, which stays in its place along it; below it the decision in force, where it came from and
how old its scene was. Plain SVG animation, no script, so that it plays where pages show images.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import msgspec

from examples.highway.recording import FRAMES_HZ, Frame, Recording
from examples.highway.traffic import LANE_WIDTH_M, LANES

_BEHIND_M, _AHEAD_M, _SCALE = 35.0, 95.0, 6.0
_LENGTH_M, _WIDTH_M = 5.0, 2.0
_DASH_M, _GAP_M = 3.0, 9.0
_TOP, _TEXT = 10, 64
_STYLE = (
    "text{font:15px ui-monospace,monospace;fill:#24292f}.road{fill:#57606a}.line{stroke:#d0d7de;stroke-width:1.5}"
    ".car{fill:#f6f8fa}.own{fill:#2da44e}.small{font-size:12px;fill:#57606a}.page{fill:#ffffff}"
)


def svg(recording: Recording, begin_s: float, end_s: float) -> str:
    """The drive between two instants, over and over."""
    frames = [frame for frame in recording.frames if begin_s <= frame.at_s <= end_s]
    if len(frames) < 2:
        raise SystemExit(f"the drive has {len(frames)} frames from {begin_s} to {end_s} s: give a longer piece of it")
    span_s = (len(frames) - 1) / FRAMES_HZ
    width, road = (_BEHIND_M + _AHEAD_M) * _SCALE, LANES * LANE_WIDTH_M * _SCALE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {road + _TOP + _TEXT:.0f}" role="img">',
        f"<title>{escape(f'{recording.episode.contender} driving, seed {recording.episode.seed}')}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{width:.0f}" height="{road + _TOP + _TEXT:.0f}"/>',
        f'<rect class="road" y="{_TOP}" width="{width:.0f}" height="{road:.0f}"/>',
        *_lines(frames, width, span_s),
        *_others(frames, span_s),
        _own(frames, span_s),
        *_captions(frames, road + _TOP, span_s),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _lines(frames: Sequence[Frame], width: float, span_s: float) -> list[str]:
    """Dashes between the lanes; the road slides under us by what we drive, jumping back a dash with its gap unseen."""
    every = (_DASH_M + _GAP_M) * _SCALE
    offsets = [(frame.places[0][0] - frames[0].places[0][0]) * _SCALE for frame in frames]
    reach = width + offsets[-1] + every
    slide = _animated("translate", [f"{-offset:.0f},0" for offset in offsets], span_s)
    lines = [
        f'<line class="line" x1="0" x2="{reach:.0f}" y1="{_y(lane - 0.5):.0f}" y2="{_y(lane - 0.5):.0f}" '
        f'stroke-dasharray="{_DASH_M * _SCALE:.0f} {_GAP_M * _SCALE:.0f}"/>'
        for lane in range(1, LANES)
    ]
    return ["<g>", *lines, slide, "</g>"]


def _y(lane: float) -> float:
    """Of the middle of a lane, from 0."""
    return _TOP + (lane + 0.5) * LANE_WIDTH_M * _SCALE


def _others(frames: Sequence[Frame], span_s: float) -> list[str]:
    """Every other vehicle that comes into view."""
    cars = []
    for i in range(1, len(frames[0].places)):
        offsets = [frame.places[i][0] - frame.places[0][0] for frame in frames]
        if any(-_BEHIND_M - _LENGTH_M < offset < _AHEAD_M + _LENGTH_M for offset in offsets):
            places = [
                f"{(offset + _BEHIND_M) * _SCALE:.0f},{_y(frame.places[i][1] / LANE_WIDTH_M):.0f}"
                for offset, frame in zip(offsets, frames, strict=True)
            ]
            cars.append(_car("car", places, span_s))
    return cars


def _own(frames: Sequence[Frame], span_s: float) -> str:
    places = [f"{_BEHIND_M * _SCALE:.0f},{_y(frame.places[0][1] / LANE_WIDTH_M):.0f}" for frame in frames]
    return _car("own", places, span_s)


def _car(kind: str, places: Sequence[str], span_s: float) -> str:
    length, width = _LENGTH_M * _SCALE, _WIDTH_M * _SCALE
    return (
        f'<g transform="translate({places[0]})">'
        f'<rect class="{kind}" x="{-length / 2:.0f}" y="{-width / 2:.0f}" width="{length:.0f}" height="{width:.0f}"'
        f' rx="3"/>{_animated("translate", places, span_s)}</g>'
    )


def _animated(kind: str, values: Sequence[str], span_s: float) -> str:
    if len(set(values)) == 1:
        return ""
    return (
        f'<animateTransform attributeName="transform" type="{kind}" dur="{span_s:g}s" repeatCount="indefinite" '
        f'values="{";".join(values)}"/>'
    )


def _captions(frames: Sequence[Frame], top: float, span_s: float) -> list[str]:
    """A line of text for every stretch of frames that say the same, shown in its turn."""
    texts = [_caption(frame) for frame in frames]
    found, first = [], 0
    for i in range(1, len(texts) + 1):
        if i == len(texts) or texts[i] != texts[first]:
            found.append(_shown(texts[first], first / len(texts), i / len(texts), top, span_s))
            first = i
    return found


def _caption(frame: Frame) -> tuple[str, str]:
    source = f"from {frame.source}, " if frame.source else ""
    sure = f"confidence {math.floor(100 * frame.confidence)} %, " if frame.confidence is not None else ""
    age = f"{round(frame.age_ms / 10) * 10} ms behind its scene" if frame.source else ""
    return f"{frame.speed_m_s:.0f} m/s  {frame.action}", f"{source}{sure}{age}".rstrip(", ")


def _shown(text: tuple[str, str], begin: float, end: float, top: float, span_s: float) -> str:
    times, values = [0.0, begin, end], ["hidden", "visible", "hidden"]
    if begin == 0.0:
        times, values = times[1:], values[1:]
    if end == 1.0:
        times, values = times[:-1], values[:-1]
    animation = ""
    if len(times) > 1:
        animation = (
            f'<animate attributeName="visibility" calcMode="discrete" dur="{span_s:g}s" repeatCount="indefinite" '
            f'keyTimes="{";".join(f"{time:.4g}" for time in times)}" values="{";".join(values)}"/>'
        )
    first = "visible" if begin == 0.0 else "hidden"
    return (
        f'<g visibility="{first}">{animation}'
        f'<text x="12" y="{top + 26:.0f}" xml:space="preserve">{escape(text[0])}</text>'
        f'<text class="small" x="12" y="{top + 48:.0f}">{escape(text[1])}</text></g>'
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.highway.render", description="Draw a recorded drive.")
    parser.add_argument("drive", type=Path, help="as 'python -m examples.highway --record' wrote it")
    parser.add_argument("out", type=Path)
    parser.add_argument("--begin", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--end", type=float, default=10.0, metavar="SECONDS")
    given = parser.parse_args()
    recording = msgspec.json.decode(given.drive.read_bytes(), type=Recording)
    given.out.write_text(svg(recording, given.begin, given.end), encoding="utf-8")


if __name__ == "__main__":
    main()
