"""Plain data that comes from outside or goes there: JSON, yaml, and what checkpoints hold."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
