"""What a student's calibration rests on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pangu_cv.distill.finish import calibrator
from pangu_cv.distill.images import Seen
from pangu_cv.distill.normals import with_normals
from pangu_cv.distill.recipe import ImagesConfig
from pangu_cv.distill.views import Views
from pangu_cv.errors import DataError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.models.augment import AugmentConfig
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.conformal import ConformalThreshold
from pangu_cv.tasks.saved import SavedModel, load_model
from tests.distill.test_distill import teacher
from tests.finetune.tiny import COLOURS, picture, save


def seen_of(folder: Path, *, images: int = 10, groups: int = 0) -> Seen:
    """Normal images of so many groups."""
    paths = tuple(save(folder / f"{at}.png", picture(COLOURS["blue"], at)) for at in range(images))
    of_group = {path: f"g{at % groups}" for at, path in enumerate(paths)} if groups else {}
    views = Views(paths, load_model(teacher("anomaly")[0] / "model").provenance.decode, AugmentConfig(), 1)
    return Seen(views, (), (40, 48), 1, frozenset(paths), of_group)


def detector() -> SavedModel:
    """A detector whose memory is empty."""
    return replace(load_model(teacher("anomaly")[0] / "model"), normality=None)


def test_images_of_one_group_count_once(tmp_path: Path) -> None:
    known = load_model(teacher("anomaly")[0] / "model")
    rates = []
    for groups in (0, 2):
        model = calibrator(detector(), known, seen_of(tmp_path / str(groups), groups=groups))(10).model
        assert isinstance(model, AnomalyModel)
        assert model.calibration is not None
        rates.append(model.calibration.normals)
    assert rates == [10, 2]


def test_groups_of_a_table_are_carried(tmp_path: Path) -> None:
    for at in range(3):
        save(tmp_path / "images" / f"{at}.png", picture(COLOURS["blue"], at))
    (tmp_path / "groups.csv").write_text("file,group\n0.png,batch\n2.png,batch\n")
    data = ImagesConfig(path=tmp_path / "images", groups=tmp_path / "groups.csv")
    assert [sample.group for sample in data.read()] == ["batch", None, "batch"]


def test_what_is_compared_has_not_seen_what_it_is_compared_on(tmp_path: Path) -> None:
    """The bank of the comparison is of the learnt images, the saved one of all."""
    seen = seen_of(tmp_path)
    calibrated = calibrator(detector(), load_model(teacher("anomaly")[0] / "model"), seen)
    blind = calibrated(7).normality
    whole = calibrated(10).normality
    assert blind is not None
    assert whole is not None
    names = {Path(name).name for name in blind.digests}
    assert names == {path.name for path in seen.views.paths[:7]}
    assert len(whole.digests) == 10


def test_the_threshold_of_unknown_is_fitted_to_what_it_may_see(tmp_path: Path) -> None:
    """Other images, other doubts, another threshold."""
    teaching, student = (load_model(teacher("classify")[0] / "model") for _ in range(2))
    for saved in (teaching, student):
        assert isinstance(saved.model, ClassifyModel)
        saved.model.install(ConformalThreshold(0.4, 0.1, 10, 0.1))
    seen = seen_of(tmp_path, images=5)
    for at, colour in enumerate(COLOURS.values()):
        save(seen.views.paths[at], picture(colour, at))
    calibrated = calibrator(student, teaching, seen)
    values = []
    for images in (2, 5):
        model = calibrated(images).model
        assert isinstance(model, ClassifyModel)
        assert model.calibration is not None
        values.append(model.calibration.value)
    assert values[0] != values[1]


def test_too_few_normal_images_are_told_at_once(tmp_path: Path) -> None:
    model = load_model(teacher("anomaly")[0] / "model").model
    seen = seen_of(tmp_path, groups=2)
    assert with_normals(model, seen, learnt=9).normal == seen.normal
    with pytest.raises(DataError, match="1 of the 1 images that are learnt from are labelled good"):
        with_normals(model, seen, learnt=1)
    one_group = replace(seen, groups=dict.fromkeys(seen.views.paths, "batch"))
    with pytest.raises(DataError, match=r"9 of the 9 .* of 1 groups"):
        with_normals(model, one_group, learnt=9)
    for path in seen.views.paths[1:9]:
        path.write_bytes(seen.views.paths[0].read_bytes())
    with pytest.raises(DataError, match=r"9 of the 9 .* of 1 groups \(copies are one\)"):
        with_normals(model, replace(seen, groups={}), learnt=9)


def test_what_the_teacher_calls_normal_is_counted_where_nothing_is_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(teacher("anomaly")[0] / "model").model
    seen = replace(seen_of(tmp_path), normal=frozenset())
    answers = iter([False, True, True, True, True, True, True, True, True, False])
    monkeypatch.setattr(TorchDecider, "run", lambda *_: {"is_anomalous": np.array([next(answers)])})
    with pytest.raises(DataError, match="1 of the 9 images that are learnt from are normal by what the teacher says"):
        with_normals(model, seen, learnt=9)
