"""How matt steel and cable take the light of the scene."""

from dataclasses import dataclass

import numpy as np

from pangu_cv.data.scenes.camera import Camera
from pangu_cv.data.scenes.noise import Floats
from pangu_cv.data.scenes.weather import Weather


@dataclass(frozen=True, slots=True)
class Light:
    """The scene's light in the camera's frame (right, up, towards the viewer); colours float[3]."""

    sun_3: Floats
    up_3: Floats
    sun: Floats
    sky: Floats
    ground: Floats

    def shade(self, colour_3: Floats, normals_N3: Floats) -> Floats:
        """Colours float[N, 3] of matt surfaces with these unit normals in the camera's frame."""
        direct = np.minimum(np.maximum(normals_N3 @ self.sun_3, 0.0), 1.0)[:, None]
        above = (0.5 + 0.5 * (normals_N3 @ self.up_3))[:, None]
        return np.asarray(colour_3 * (self.ground + (self.sky - self.ground) * above + direct * self.sun))

    def turned(self, cos: float, sin: float) -> "Light":
        """The same light in a frame turned in the image plane, for a sprite that is pasted turned."""
        turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
        return Light(turn @ self.sun_3, turn @ self.up_3, self.sun, self.sky, self.ground)


def light_for(camera: Camera, weather: Weather, ground_3: Floats) -> Light:
    """What falls on things near the camera: sun, sky from above and the land's glow from below."""
    flip = np.array([1.0, 1.0, -1.0])
    return Light(
        sun_3=camera.direction(weather.sun_3) * flip,
        up_3=camera.direction(np.array([0.0, 1.0, 0.0])) * flip,
        sun=weather.sun,
        sky=weather.sky_light,
        ground=0.55 * weather.sky_light * (0.4 + ground_3) + 0.10 * weather.sun * ground_3,
    )
