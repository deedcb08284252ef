"""The plain loop that `faceforge cut` is measured against; OpenCV alone, with as many threads as it likes.

python -m benchmarks.cut.plain PHOTOS [CROPS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2


def cut_all(photos: Path, crops: Path | None = None) -> dict[str, list[tuple[int, ...]]]:
    """Find, grow, clip, resize, and write where ``crops`` is given; the boxes of every photo, sorted."""
    data = cv2.data.haarcascades  # pyright: ignore[reportAttributeAccessIssue]
    cascade = cv2.CascadeClassifier(data + "haarcascade_frontalface_default.xml")
    boxes = {}
    for path in sorted(photos.iterdir()):
        photo = cv2.imread(str(path))
        assert photo is not None, path
        grey = cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)
        found = cascade.detectMultiScale(grey, 1.2, 5, minSize=(60, 60))
        boxes[path.name] = sorted(tuple(int(v) for v in box) for box in found)
        for number, (x, y, w, h) in enumerate(boxes[path.name]):
            left, top = max(0, x - w // 4), max(0, y - h // 2)
            crop = cv2.resize(photo[top : y + h + h // 2, left : x + w + w // 4], (360, 480))
            if crops:
                cv2.imwrite(str(crops / f"{path.name}-{number}.png"), crop)
    return boxes


if __name__ == "__main__":
    cut_all(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
