"""Formats durations for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Returns `05:12`, `1:05:12` or `2 d 01:05:12`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d}:{minutes:02d}:{seconds:02d}"
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
