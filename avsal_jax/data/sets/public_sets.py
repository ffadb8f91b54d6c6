"""The rows of published data sets; `synthetic` has the row of the generated set."""

from __future__ import annotations

from avsal_jax.data.gaze.hevc_gaze import read_hevc_gaze
from avsal_jax.data.gaze.photograph_sets import read_eye_mat, read_sun_scenes
from avsal_jax.data.sets.dataset import ALL_STIMULI, SIX, SPLITS, DataSet
from avsal_jax.data.sets.packagings.recorded_gaze import PROTOCOL, RecordedGaze
from avsal_jax.data.sets.packagings.split_folders import Dhf1k, Shots
from avsal_jax.data.sets.packagings.stavis import Stavis
from avsal_jax.data.sets.raw_fixations import RawFixations, coutrot_people, people_of_folders
from avsal_jax.registry import register

_PAL, _NTSC = 24.99975, 29.9997  # as in the lists of STAViS
_GASP_LISTS = "{split}_stavis_{fold}"
_DHF1K_PROTOCOL = "dhf1k"
_AUDIO_VISUAL = {
    "folds": (1, 2, 3),
    "group": SIX,
    "source": "the authors of STAViS: cvsp.cs.ntua.gr/research/stavis/data (fetch_data.sh of atsiami/STAViS)",
}
_NOT_STATED = "not stated with the packaging of STAViS"
_OF_SHOTS = {
    "packaging": Shots(),
    "fps": 24.0,
    "protocol": _DHF1K_PROTOCOL,
    "licence": "not stated with the packaging",
    "source": "the authors of DHF1K (wenguanwang/DHF1K), with Hollywood-2 and UCF-Sports",
}
_GAZE = {"splits": ("train", "test", ALL_STIMULI), "protocol": PROTOCOL}

register("dataset", "dhf1k")(
    DataSet(
        title="DHF1K",
        about="1,000 videos without sound, watched by 17 people",
        packaging=Dhf1k(),
        fps=30.0,
        splits=SPLITS,
        protocol=_DHF1K_PROTOCOL,
        licence="its authors state CC BY 4.0 for data and code",
        source="its authors (wenguanwang/DHF1K)",
    )
)
register("dataset", "hollywood2")(
    DataSet(title="Hollywood-2", about="shots of films, without sound", **_OF_SHOTS)
)
# The packaging of UCF-Sports states no rate; 24 is that of unisal @0440df77.
register("dataset", "ucf")(DataSet(title="UCF-Sports", about="sports actions, without sound", **_OF_SHOTS))
register("dataset", "diem")(
    DataSet(
        title="DIEM",
        about="clips of many kinds with their sound, each watched by about 50 people",
        packaging=Stavis(folder="DIEM", shipped=_GASP_LISTS),
        fps=_NTSC,
        single_split=True,
        licence="its text was not found; the raw gaze is for non-commercial use",
        observers=RawFixations(people_of_folders),
        **_AUDIO_VISUAL,
    )
)
register("dataset", "coutrot1")(
    DataSet(
        title="Coutrot 1",
        about="60 clips with sound; 72 people, 18 for each of four auditory conditions",
        packaging=Stavis(folder="Coutrot_db1", shipped=_GASP_LISTS),
        fps=_PAL,
        licence=_NOT_STATED,
        observers=RawFixations(coutrot_people),
        **_AUDIO_VISUAL,
    )
)
register("dataset", "coutrot2")(
    DataSet(
        title="Coutrot 2",
        about="15 clips with sound, all of them social scenes; 40 people, 20 for each auditory condition",
        packaging=Stavis(folder="Coutrot_db2", shipped=_GASP_LISTS),
        fps=_PAL,
        licence=_NOT_STATED,
        observers=RawFixations(coutrot_people),
        **_AUDIO_VISUAL,
    )
)
register("dataset", "avad")(
    DataSet(
        title="AVAD",
        about="short clips in which something sounds, watched by 16 people",
        packaging=Stavis(folder="AVAD"),
        licence=_NOT_STATED,
        **_AUDIO_VISUAL,
    )
)
register("dataset", "etmd")(
    DataSet(
        title="ETMD",
        about="twelve long clips with sound, watched by 10 people",
        packaging=Stavis(folder="ETMD_av"),
        fps=_PAL,
        licence=_NOT_STATED,
        **_AUDIO_VISUAL,
    )
)
register("dataset", "summe")(
    DataSet(
        title="SumMe",
        about="videos with sound, watched by 10 people",
        packaging=Stavis(folder="SumMe"),
        licence=_NOT_STATED,
        **_AUDIO_VISUAL,
    )
)
register("dataset", "ave")(
    DataSet(
        title="AVE",
        about="lists over DIEM, Coutrot 1 and Coutrot 2, with a category for each video",
        packaging=Stavis(shipped="{split}_ave"),
        splits=SPLITS,
        made_of=("diem", "coutrot1", "coutrot2"),
        categories={"Nature": "ave:nature", "Social": "ave:social", "Other": "ave:miscellaneous"},
        licence="MIT for the lists; the films are those of the three sets",
        source="the lists come with the project, from knowledgetechnologyuhh/gasp",
    )
)
register("dataset", "osie")(
    DataSet(
        title="OSIE",
        about="700 photographs with people, animals and things, seen by 15 people each",
        packaging=RecordedGaze(reader=read_eye_mat),
        licence="MIT, NUS VIP 2014",
        source="its authors: NUS-VIP/predicting-human-gaze-beyond-pixels (@4a46789)",
        **_GAZE,
    )
)
register("dataset", "eyecrowd")(
    DataSet(
        title="EyeCrowd",
        about="500 photographs with crowds of 3 to 268 people, seen by 16 people each",
        packaging=RecordedGaze(reader=read_eye_mat),
        licence="MIT, M. Jiang and NUS VIP 2014",
        source="its authors: NUS-VIP/saliency-in-crowd (@8bb0416)",
        **_GAZE,
    )
)
register("dataset", "sun_scenes")(
    DataSet(
        title="Scenes of SUN2012",
        about="500 photographs of scenes, seen by 10 to 12 people each",
        packaging=RecordedGaze(reader=read_sun_scenes),
        licence="MIT, H. Liang 2015",
        source="its author: Yanakz/Scene (@2cf042b)",
        **_GAZE,
    )
)
register("dataset", "hevc_gaze")(
    DataSet(
        title="Gaze on HEVC test sequences",
        about="33 clips without sound, watched by 32 people",
        packaging=RecordedGaze(reader=read_hevc_gaze),
        folds=(1, 2, 3, 4, 5),
        disjoint_folds=True,
        licence='"One could freely use this database, if that, please cite"',
        source="its authors: remega/video_database (@80711cd)",
        **_GAZE,
    )
)
