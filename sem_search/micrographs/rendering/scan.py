"""One rendered scan, from a material and a seed: what the demonstration set and pre-training are made of."""

from sem_search.micrographs.rendering.electrons import DEFAULT_CAMERA, Camera, compute_exposure, compute_signal
from sem_search.micrographs.rendering.exact import Draws, FloatArray
from sem_search.micrographs.rendering.materials import Material
from sem_search.micrographs.rendering.scene import compute_scene
from sem_search.seeds import derive_seed


def render_scan(
    material: Material, *, height_px: int, width_px: int, seed: int, camera: Camera = DEFAULT_CAMERA
) -> FloatArray:
    """Return one scan without a data bar; the same to the last bit on every machine.

    The scene and its exposure have seeds of their own: another camera looks at the same particles.

    Args:
        material: What is scattered on the tape.
        height_px: Height of the scan.
        width_px: Width of the scan.
        seed: Of this image.
        camera: Range of its settings.

    Returns:
        Grey levels from 0 to 1, shape (height_px, width_px).
    """
    scene = compute_scene(material, height_px=height_px, width_px=width_px, draws=Draws(derive_seed(seed, "scene")))
    draws = Draws(derive_seed(seed, "exposure"))
    return compute_exposure(compute_signal(scene, draws=draws), camera=camera, draws=draws)
