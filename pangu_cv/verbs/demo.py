"""``pangu-cv demo``."""

import time
from pathlib import Path

from pangu_cv.verbs.finetune import figures
from pangu_cv.workflows.demo import run_demo


def demo(*, data: Path | None = None, out: Path = Path("runs/demo")) -> None:
    """Run the main job end to end: a few labels in, a certified ONNX bundle out.

    Parameters
    ----------
    data
        Your images: class folders (classify) or the MVTec AD layout (anomaly). Default: built-in power-line scenes.
    out
        Where to write report.html, summary.json, bundle/ and images/.
    """
    start = time.perf_counter()
    parts = run_demo(out, data=data, say=lambda text: print(f"· {text}", flush=True))
    for part in parts:
        worst = part.certificate
        print(f"\n{part.task}")
        for line in figures(part.metrics):
            print(f"  {line}")
        print(
            f"  certificate       {worst['images']} images, {worst['flips']} flips, scores within {worst['score']:.1e}"
        )
        print(f"  report            {part.report}")
    first = parts[0]
    shown = data or Path(out) / "images" / "power_line_defects" / "test" / "nest"
    print(f"\nDone in {time.perf_counter() - start:.0f} s. Open {first.report} in a browser. Next:")
    print(f"  pangu-cv predict {first.bundle} {shown} --out {out}/predictions   (runs without torch)")
    print(f"  pangu-cv verify {first.bundle}")
    print("  make demo DATA=path/to/your/images")
