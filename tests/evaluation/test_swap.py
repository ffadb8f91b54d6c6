"""The swap measure on synthetic scenes and known maps; separability of domains with a known difference."""

import dataclasses

import numpy as np
import pytest

from avsal_jax import AvsalError
from avsal_jax.evaluation.domains import separability
from avsal_jax.evaluation.swap import mass_at, swap_measure, swap_pairs
from avsal_jax.synthetic import SyntheticSettings
from avsal_jax.synthetic.observers import bump
from avsal_jax.synthetic.scene import make_scene

SETTINGS = SyntheticSettings(videos=12, frames=6, height=64, width=96, objects=2)
SCENES = [make_scene(SETTINGS, number) for number in range(SETTINGS.videos)]
SIZE, FRAMES = (64, 96), (0, 3, 5)


def scene_maps(scene, weights):
    """Returns maps [FRAMES, 64, 96] with a bump of the given weight at each object."""
    return np.stack(
        [
            sum(w * bump(*SIZE, path[frame], 3.0) for w, path in zip(weights, scene.centres, strict=True))
            for frame in FRAMES
        ]
    )


def follows(picture, sound):
    """Maps of an audio-visual network: higher at the object whose appearance has the class of the sound."""
    scene = SCENES[picture]
    return scene_maps(scene, [0.9 if looks == SCENES[sound].kind else 0.1 for looks in scene.appearances])


def test_pairs_name_the_silent_object_of_the_picture():
    pairs = swap_pairs(SCENES)
    assert len(pairs) >= 10 and len({pair.picture for pair in pairs}) == len(pairs)
    for pair in pairs:
        scene = SCENES[pair.picture]
        assert {pair.sounding, pair.silent} == {0, 1} and pair.sounding == scene.sounding
        assert SCENES[pair.sound].kind == scene.appearances[pair.silent] != scene.kind
        between = [(pair.picture + k) % 12 for k in range(1, (pair.sound - pair.picture) % 12)]
        assert all(SCENES[k].kind != scene.appearances[pair.silent] for k in between)


def test_three_objects_have_two_silent_ones():
    settings = dataclasses.replace(SETTINGS, objects=3, videos=40)
    scenes = [make_scene(settings, number) for number in range(40)]
    pairs = swap_pairs(scenes)
    assert len(pairs) == 80  # four classes of sound: each is heard somewhere


def test_the_measure_of_maps_that_follow_ignore_and_flee_the_sound():
    swaps = swap_measure(SCENES, SIZE, FRAMES, follows)
    assert [swap.pair for swap in swaps] == swap_pairs(SCENES) and all(swap.rises for swap in swaps)
    for swap in swaps:  # what one bump puts into the other's disc is little
        assert swap.original == pytest.approx(0.1, abs=0.02) and swap.swapped == pytest.approx(0.9, abs=0.02)
    deaf = swap_measure(SCENES, SIZE, FRAMES, lambda picture, sound: scene_maps(SCENES[picture], [0.3, 0.7]))
    assert not any(swap.rises for swap in deaf) and all(swap.original == swap.swapped for swap in deaf)
    fleeing = swap_measure(SCENES, SIZE, FRAMES, lambda picture, sound: 1 - follows(picture, sound))
    assert not any(swap.rises for swap in fleeing)


def test_maps_of_another_size_than_the_scenes():
    def smaller(picture, sound):
        return follows(picture, sound).reshape(len(FRAMES), 32, 2, 48, 2).mean((2, 4))

    swaps = swap_measure(SCENES, SIZE, FRAMES, smaller)
    assert all(swap.original < 0.15 and swap.swapped > 0.85 for swap in swaps)


def test_mass_is_what_lies_within_the_radius_in_the_right_frame():
    scene = SCENES[0]
    maps = np.zeros((1, *SIZE))
    row, column = scene.centres[0, 3].astype(int)
    maps[0, row, column] = 2.0
    assert mass_at(maps, scene, 0, [3], SIZE) == 2.0
    maps = np.ones((1, *SIZE))
    assert mass_at(maps, scene, 0, [3], SIZE) == pytest.approx(np.pi * scene.radii[0] ** 2, rel=0.05)
    empty = swap_measure(SCENES, SIZE, FRAMES, lambda picture, sound: np.zeros((3, *SIZE)))
    assert all(np.isnan(swap.original) and not swap.rises for swap in empty)


def test_sets_without_pairs():
    with pytest.raises(AvsalError, match="no sound names a silent object of another video; use a set of mor"):
        swap_pairs(SCENES[:1])
    sided = dataclasses.replace(SETTINGS, grade="synchrony", objects=2, seed=3)
    with pytest.raises(
        AvsalError, match="the sounds of these videos do not name appearances; .* grade identity"
    ):
        swap_pairs([make_scene(sided, number) for number in range(12)])
    nowhere = dataclasses.replace(SETTINGS, inconsistent=1.0)
    with pytest.raises(AvsalError, match="no sound names a silent object"):
        swap_pairs([make_scene(nowhere, number) for number in range(12)])


def tokens(rng, offset, count=60):
    return (rng.standard_normal((count, 2, 6)) + offset).astype(np.float32)


def test_domains_are_separable_where_they_differ():
    rng = np.random.default_rng(0)
    for offset, low, high in ((1.5, 0.9, 1.0), (0.0, 0.3, 0.7)):
        train, test = ((tokens(rng, 0), tokens(rng, offset)) for _ in range(2))
        accuracy, train_accuracy = separability(train, test, (16, 8, 4), steps=150)
        assert low <= accuracy <= high and train_accuracy > 0.8  # without a difference it learns by heart


def test_domains_of_unlike_tokens():
    rng = np.random.default_rng(0)
    fine = tokens(rng, 0), tokens(rng, 0)
    for wrong in ((fine[0], fine[1][:0]), (fine[0], fine[1][:, :1])):
        with pytest.raises(
            AvsalError, match="of both domains must have one .N, C. and at least one clip; got .60, 2, 6"
        ):
            separability(fine, wrong, (4, 4, 4))
