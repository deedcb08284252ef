"""Types of plain data: JSON, yaml and checkpoint contents."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
