"""Recordings of your own: one recording in many forms, and what is missing or damaged."""

import fractions
import pathlib

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.data.gaze.recordings import read_recordings
from avsal_jax.data.gaze.stimuli import GazeOptions
from avsal_jax.testing.videos import moving_spot, write_video

WIDTH, HEIGHT = 320, 240
HEADER = "stimulus,observer,x,y,start_ms,duration_ms"
# Stimulus, observer, x, y, start and duration in ms.
ROWS = [
    ("house.png", "ann", 160.5, 100.25, 0, 250),
    ("house.png", "ann", 20.25, 200.5, 300, 180),
    ("house.png", "bob", 300.5, 20.75, 12, 220),
    ("house.png", "bob", 310.25, 120.5, 280, 400),
    ("tree.png", "ann", 100.5, 50.25, 0, 333),
    ("tree.png", "bob", 319.25, 239.5, 40, 150),
    ("tree.png", "bob", 5.5, 7.25, 260, 275),
]


def write_stimuli(root: pathlib.Path, *names: str) -> pathlib.Path:
    (root / "stimuli").mkdir(parents=True, exist_ok=True)
    for name in names or ("house.png", "tree.png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / "stimuli" / name)
    return root


def write_table(root: pathlib.Path, text: str, name: str = "fixations.csv", encoding: str = "utf-8"):
    (root / name).write_bytes(text.encode(encoding))
    return root


def table(
    rows=ROWS, header: str = HEADER, delimiter: str = ",", form=lambda row: row, decimal: str = "."
) -> str:
    """Returns a table of rows, each brought into a form."""
    lines = [header]
    for row in rows:
        cells = [repr(c).replace(".", decimal) if isinstance(c, float) else str(c) for c in form(row)]
        lines.append(delimiter.join(f'"{c}"' if delimiter in c else c for c in cells))
    return "\n".join(lines) + "\n"


def all_rows(gaze_set) -> list[tuple]:
    return [
        (s.name, s.fixations.observers[o], x, y, start, duration)
        for s in gaze_set.stimuli
        for o, x, y, start, duration in zip(
            s.fixations.observer,
            s.fixations.x,
            s.fixations.y,
            s.fixations.start,
            s.fixations.duration,
            strict=True,
        )
    ]


def has_note(notes, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in notes)


def shuffled(row):
    stimulus, observer, x, y, start, duration = row
    return duration, y, "seen", stimulus, x, start, observer


def seconds(row):
    return *row[:4], row[4] / 1000, row[5] / 1000


def with_end(row):
    return *row[:5], row[4] + row[5]


def on_screen(row):
    """The stimulus is shown at twice its size, from (320, 60) on a screen of 1280x600."""
    return *row[:2], 320 + 2 * row[2], 60 + 2 * row[3], *row[4:]


def as_shares(row):
    return *row[:2], row[2] / WIDTH, row[3] / HEIGHT, *row[4:]


def as_shares_of_screen(row):
    _, _, x, y, *_ = on_screen(row)
    return *row[:2], x / 1280, y / 600, *row[4:]


SCREEN = GazeOptions(screen=(1280, 600), stimulus_rect=(320, 60, 2 * WIDTH, 2 * HEIGHT))
FORMS = {
    "plain": (table(), "utf-8", GazeOptions()),
    "semicolons": (table(delimiter=";", header=HEADER.replace(",", ";")), "utf-8", GazeOptions()),
    "tabs": (table(delimiter="\t", header=HEADER.replace(",", "\t")), "utf-8", GazeOptions()),
    "decimal comma": (
        table(delimiter=";", header=HEADER.replace(",", ";"), decimal=","),
        "utf-8",
        GazeOptions(),
    ),
    "quoted decimal comma": (table(decimal=","), "utf-8", GazeOptions()),
    "a spreadsheet's": (
        "sep=;\r\n" + table(delimiter=";", header=HEADER.replace(",", ";")).replace("\n", "\r\n"),
        "utf-8-sig",
        GazeOptions(),
    ),
    "comments, empty lines": ("# exported\n\n" + table().replace("\n", "\n\n#\n"), "utf-8", GazeOptions()),
    "utf-16": (table(delimiter="\t", header=HEADER.replace(",", "\t")), "utf-16", GazeOptions()),
    "utf-16 without mark": (table(), "utf-16-le", GazeOptions()),
    "other order": (
        table(header="DURATION_MS,Y,note,Stimulus,X,Start_ms,Observer", form=shuffled),
        "utf-8",
        GazeOptions(),
    ),
    "tobii": (
        table(
            header="MediaName\tParticipantName\tFixationPointX (MCSpx)\tFixationPointY (MCSpx)\t"
            "RecordingTimestamp [ms]\tGazeEventDuration (ms)",
            delimiter="\t",
        ),
        "utf-16",
        GazeOptions(),
    ),
    "smi": (
        table(
            header="Stimulus,Participant,Fixation Position X [px],Fixation Position Y [px],"
            "Event Start Trial Time [ms],Event Duration [ms]"
        ),
        "utf-8",
        GazeOptions(),
    ),
    "eyelink": (
        table(
            header="image,RECORDING_SESSION_LABEL,CURRENT_FIX_X,CURRENT_FIX_Y,CURRENT_FIX_START,"
            "CURRENT_FIX_DURATION"
        ),
        "utf-8",
        GazeOptions(),
    ),
    "s by name": (table(header="img,sub,x_px,y_px,onset_s,dur_s", form=seconds), "utf-8", GazeOptions()),
    "seconds by numbers": (table(header="img,subj,x,y,onset,duration", form=seconds), "utf-8", GazeOptions()),
    "milliseconds by numbers": (table(header="img,subj,x,y,onset,duration"), "utf-8", GazeOptions()),
    "microseconds": (
        table(
            header="img,subj,x,y,start_us,duration [µs]",
            form=lambda row: (*row[:4], row[4] * 1000, row[5] * 1000),
        ),
        "utf-8",
        GazeOptions(),
    ),
    "a mixture of units": (
        table(header="img,subj,x,y,start,duration_ms", form=lambda row: (*row[:4], row[4] / 1000, row[5])),
        "utf-8",
        GazeOptions(time_unit="s"),
    ),
    "end": (table(header="img,subj,x,y,start,end_ms", form=with_end), "utf-8", GazeOptions()),
    "end by numbers": (table(header="img,subj,x,y,start,end", form=with_end), "utf-8", GazeOptions()),
    "end in seconds": (
        table(
            header="img,subj,x,y,start_ms,end_s", form=lambda row: (*row[:5], (row[4] + row[5]) / 1000)
        ),
        "utf-8",
        GazeOptions(),
    ),
    "eyes": (
        table(
            header="stimulus,observer,left_x,left_y,start_ms,duration_ms,right_x,right_y",
            form=lambda row: (*row[:2], row[2] - 1, row[3] + 2, *row[4:], row[2] + 1, row[3] - 2),
        ),
        "utf-8",
        GazeOptions(),
    ),
    "screen": (table(form=on_screen), "utf-8", SCREEN),
    "shares": (table(form=as_shares), "utf-8", GazeOptions()),
    "shares of the screen": (table(form=as_shares_of_screen), "utf-8", SCREEN),
    "time origin": (
        table(form=lambda row: (*row[:4], row[4] + 183_746, row[5])),
        "utf-8",
        GazeOptions(time_origin=183_746),
    ),
    "paths": (table(form=lambda row: (f"C:\\exp\\{row[0]}", *row[1:])), "utf-8", GazeOptions()),
    "no suffix": (table(form=lambda row: (row[0][:-4], *row[1:])), "utf-8", GazeOptions()),
    "other case": (table(form=lambda row: (row[0].upper(), *row[1:])), "utf-8", GazeOptions()),
    "other order of rows": (table(rows=ROWS[::-1]), "utf-8", GazeOptions()),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_one_recording_in_every_form(tmp_path, form):
    text, encoding, options = FORMS[form]
    root = write_table(write_stimuli(tmp_path), text, encoding=encoding)
    gaze_set = read_recordings(root, options)
    assert [s.name for s in gaze_set.stimuli] == ["house", "tree"]
    rows = all_rows(gaze_set)
    assert [row[:2] for row in rows] == [(row[0][:-4], row[1]) for row in ROWS]
    expected = [(*row[2:4], row[4] / 1000, row[5] / 1000) for row in ROWS]
    np.testing.assert_allclose([row[2:] for row in rows], expected, atol=1e-9)
    for stimulus in gaze_set.stimuli:
        assert stimulus.fixations.size == (HEIGHT, WIDTH)
        assert stimulus.path.name == f"{stimulus.name}.png" and not stimulus.is_video
        assert stimulus.fixations.observers == ("ann", "bob")
        assert stimulus.notes == ()
    assert not has_note(gaze_set.notes, "left out")


@pytest.mark.parametrize(
    ("form", "parts"),
    [
        ("semicolons", ["separated by semicolons"]),
        ("decimal comma", ["decimal comma, as 160,5"]),
        ("utf-16", ["UTF-16"]),
        ("other order", ["columns are stimulus = Stimulus", "x = X", "not read: note"]),
        ("seconds by numbers", ["duration is in s, by a typical value of 0.25"]),
        ("milliseconds by numbers", ["duration is in ms, by a typical value of 250"]),
        ("s by name", ["onset_s is in s, by its name"]),
        ("a mixture of units", ["duration_ms is in ms, by its name; --time-unit s has no effect"]),
        ("screen", ["on a screen of 1280x600"]),
        ("shares", ["positions are shares of the stimulus"]),
        ("shares of the screen", ["positions are shares of the screen of 1280x600"]),
        ("time origin", ["count from 183746"]),
        ("paths", ["of 2 stimuli the name is a path", "'C:\\\\exp\\\\house.png'"]),
        ("no suffix", ["of 2 stimuli the name lacks the suffix", "'house'"]),
        ("other case", ["of 2 stimuli the name differs in case"]),
    ],
)
def test_what_is_recognised_is_reported(tmp_path, form, parts):
    text, encoding, options = FORMS[form]
    root = write_table(write_stimuli(tmp_path), text, encoding=encoding)
    assert has_note(read_recordings(root, options).notes, *parts)


def test_latin_1_is_read_with_a_note(tmp_path):
    root = write_table(write_stimuli(tmp_path), table().replace("bob", "bjørn"), encoding="latin-1")
    gaze_set = read_recordings(root, GazeOptions())
    assert gaze_set.stimuli[0].fixations.observers == ("ann", "bjørn")
    assert has_note(gaze_set.notes, "is not UTF-8; it is read as Latin-1")


def test_times_of_the_recording_count_from_the_first_row_of_a_viewing(tmp_path):
    rows = [(*row[:4], row[4] + 10_000 * (1 + number // 2), row[5]) for number, row in enumerate(ROWS[:4])]
    gaze_set = read_recordings(write_table(write_stimuli(tmp_path), table(rows)), GazeOptions())
    assert gaze_set.stimuli[0].fixations.start == pytest.approx([0, 0.3, 0, 0.268])
    assert has_note(gaze_set.notes, "viewings of pictures begin far from 0, typically at 15006")


def test_the_first_fixation_can_be_dropped(tmp_path):
    gaze_set = read_recordings(write_table(write_stimuli(tmp_path), table()), GazeOptions(drop_first=True))
    assert [row[4] for row in all_rows(gaze_set)] == pytest.approx([0.3, 0.012, 0.28, 0.04, 0.26])
    assert gaze_set.stimuli[1].fixations.observers == ("ann", "bob")  # one without a fixation
    assert has_note(gaze_set.notes, "--drop-first leaves out 2 fixations")


def test_damaged_rows_are_counted(tmp_path):
    damaged = [
        "house.png,ann,,5,600,100",
        "house.png,cid,nan,5,600,100",
        "house.png,ann,one,5,600,100",
        "house.png,ann,5,5,1_000,100",
        "house.png,ann,5,5,600,0",
        "house.png,ann,5,5,600,-20",
        "house.png,ann,5,5,600,900000",
        "house.png,ann,5,5,600,inf",
        "house.png,ann,5,5,600",
        "house.png,ann,5,5,600,100,7",
        ",ann,5,5,600,100",
        "house.png,,5,5,600,100",
        '"house.png,ann,5,5,600,100',
        "house.png,ann,1e300,5,600,100",
        "../house.png/..,ann,5,5,600,100",
        "house\x07.png,ann,5,5,600,100",
    ]
    root = write_table(write_stimuli(tmp_path), table() + "\n".join(damaged))
    gaze_set = read_recordings(root, GazeOptions())
    assert len(all_rows(gaze_set)) == len(ROWS)
    assert gaze_set.stimuli[0].fixations.observers == ("ann", "bob", "cid")
    first = len(ROWS) + 2
    for count, reason, line in [
        (4, "which lack a position or a time", first),
        (2, "which have a cell that is not a number", first + 2),
        (2, "whose duration is not above 0", first + 4),
        (1, "whose duration is above 60 s", first + 6),
        (3, "which have another number of cells than the header's 6", first + 8),
        (2, "which lack the name of the stimulus or the observer", first + 10),
        (2, "whose stimulus cannot be the name of a file", first + 14),
    ]:
        rows = "row" if count == 1 else "rows"
        assert has_note(gaze_set.notes, f": {count} {rows} left out, {reason}", f"(first in line {line})")


def test_trailing_delimiters_are_no_damage(tmp_path):
    root = write_table(write_stimuli(tmp_path), table().replace("\n", ",,\n"))
    gaze_set = read_recordings(root, GazeOptions())
    assert len(all_rows(gaze_set)) == len(ROWS) and not has_note(gaze_set.notes, "left out")


def test_missing_and_spare_stimuli(tmp_path):
    root = write_stimuli(tmp_path, "house.png", "spare.png")
    (root / "stimuli" / "Thumbs.db").write_bytes(b"x")
    (root / "stimuli" / "broken.png").write_bytes(b"x")
    write_table(root, table() + "broken.png,ann,5,5,0,100\nhouses.png,ann,5,5,0,100\n")
    gaze_set = read_recordings(root, GazeOptions())
    broken, house, houses, tree = gaze_set.stimuli
    assert [s.name for s in gaze_set.stimuli] == ["broken", "house", "houses", "tree"]
    assert house.path and not (broken.path or houses.path or tree.path)
    assert len(tree.fixations) == 3 and tree.fixations.size == (0, 0)
    assert has_note(tree.notes, "tree.png has no file in stimuli/")
    assert has_note(houses.notes, "did you mean 'house.png'?")
    assert has_note(broken.notes, "broken.png")
    assert has_note(gaze_set.notes, "3 stimuli without a file that can be read: broken, houses, tree")
    assert has_note(gaze_set.notes, "1 stimuli without rows, left out: spare.png")
    assert has_note(gaze_set.notes, "skipped Thumbs.db")
    assert has_note(gaze_set.notes, "4 stimuli, 2 observers in all, 1 to 2 for each stimulus, 9 fixations")


def test_two_files_of_one_name_have_their_suffix(tmp_path):
    root = write_stimuli(tmp_path, "a.png", "a.bmp", "b.png")
    write_table(
        root, f"{HEADER}\na.png,ann,1,2,3,40\na.bmp,ann,1,2,3,40\nb.jpg,ann,1,2,3,40\nB,ann,1,2,9,40\n"
    )
    gaze_set = read_recordings(root, GazeOptions())
    assert [s.name for s in gaze_set.stimuli] == ["a.bmp", "a.png", "b", "b.jpg"]
    write_table(root, f"{HEADER}\na,ann,1,2,3,40\nb.png,ann,1,2,3,40\n")
    ambiguous, _ = read_recordings(root, GazeOptions()).stimuli
    assert ambiguous.path is None and has_note(ambiguous.notes, "a may mean a.bmp and a.png")


def test_positions_outside_are_kept_and_counted(tmp_path):
    rows = [*ROWS, ("tree.png", "ann", -3.0, 5.0, 500, 100), ("tree.png", "ann", 320.0, 5.0, 700, 100)]
    gaze_set = read_recordings(write_table(write_stimuli(tmp_path), table(rows)), GazeOptions())
    assert len(all_rows(gaze_set)) == 9
    assert (~gaze_set.stimuli[1].fixations.is_inside).sum() == 2
    assert gaze_set.stimuli[1].notes == ()  # `entries.gaze_entry` notes it
    assert has_note(gaze_set.notes, "2 of 9 positions lie outside", "--screen WxH and --stimulus-rect")


def test_a_size_that_the_table_states(tmp_path):
    text = table(header=HEADER + ",MediaWidth,MediaHeight", form=lambda row: (*row, 640, 480))
    gaze_set = read_recordings(write_table(write_stimuli(tmp_path), text), GazeOptions())
    assert has_note(gaze_set.stimuli[0].notes, "states 640x480 in 4 rows, and the file is 320x240")


def write_clip(root: pathlib.Path, name: str = "clip.mp4", **options) -> pathlib.Path:
    (root / "stimuli").mkdir(exist_ok=True)
    write_video(root / "stimuli" / name, moving_spot(50, 72, 128), **options)
    return root


def test_videos(tmp_path):
    root = write_clip(write_stimuli(tmp_path, "house.png"))
    write_table(
        root, table(ROWS[:4]) + "clip,ann,10,20,1500,300\nclip,bob,64,36,0,300\nclip,bob,64,36,2500,300\n"
    )
    clip, house = read_recordings(root, GazeOptions()).stimuli
    assert clip.is_video and not house.is_video
    assert clip.fixations.size == (72, 128)
    assert clip.fixations.start == pytest.approx([1.5, 0, 2.5])
    assert clip.notes == ("1 of 3 fixations begin after its end at 2.000 s",)


def test_the_time_of_a_video_is_asked_for(tmp_path):
    root = write_table(write_clip(tmp_path), f"{HEADER}\nclip,ann,10,20,9000,300\nclip,bob,10,20,9100,300\n")
    with pytest.raises(AvsalError, match="2 of 2 viewings of videos .* at 9050, .* --time-origin first"):
        read_recordings(root, GazeOptions())
    (clip,) = read_recordings(root, GazeOptions(time_origin=9000)).stimuli
    assert clip.fixations.start == pytest.approx([0, 0.1])
    (clip,) = read_recordings(root, GazeOptions(time_origin="first")).stimuli
    assert clip.fixations.start == pytest.approx([0, 0])


def test_a_clock_of_the_recording_is_noted_though_half_of_the_viewings_begin_at_0(tmp_path):
    write_clip(tmp_path, "first.mp4")
    root = write_clip(tmp_path, "second.mp4")
    root = write_table(root, f"{HEADER}\nfirst,ann,10,20,500,300\nsecond,ann,10,20,9000,300\n")
    notes = read_recordings(root, GazeOptions()).notes
    assert has_note(notes, "1 of 2 viewings of videos begin more than 2 s", "as at 9000", "--time-origin")


def test_rows_that_repeat_a_fixation_are_left_out(tmp_path):
    rows = [("tree.png", "ann", 10.5, 20.5, start, 200) for start in (0, 8, 16, 160)]
    rows += [("tree.png", "ann", 30.5, 20.5, 300, 200), ("tree.png", "ann", 31.5, 20.5, 310, 200)]
    rows += [("tree.png", "bob", 10.5, 20.5, 0, 200), ("tree.png", "ann", 10.5, 20.5, 900, 200)]
    gaze_set = read_recordings(write_table(write_stimuli(tmp_path), table(rows)), GazeOptions())
    assert gaze_set.stimuli[0].fixations.start == pytest.approx([0, 0.3, 0.31, 0.9, 0])
    assert has_note(gaze_set.notes, "3 rows left out, which repeat a fixation", "(first in line 3)")
    assert has_note(gaze_set.notes, "1 fixations begin before another of the same observer")


def test_comments_among_the_rows_are_counted(tmp_path):
    root = write_table(write_stimuli(tmp_path), "# exported\n" + table() + "# end\n#1.png,ann,1,2,3,4\n")
    notes = read_recordings(root, GazeOptions()).notes
    assert has_note(notes, "1 row left out, which begin with #, as comments do (first in line 11)")


def test_pixels_of_a_video_that_are_not_square(tmp_path):
    root = write_clip(tmp_path, pixel_aspect=fractions.Fraction(16, 15))
    write_table(root, f"{HEADER}\nclip.mp4,ann,10,20,0,300\n")
    (clip,) = read_recordings(root, GazeOptions()).stimuli
    assert has_note(clip.notes, "1.07 times as wide as high", "the 128x72 frame")


def test_animated_pictures_are_videos(tmp_path):
    frames = [Image.new("RGB", (64, 48), (60 * number, 0, 0)) for number in range(4)]
    (tmp_path / "stimuli").mkdir()
    path = tmp_path / "stimuli" / "loop.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200)
    write_table(tmp_path, f"{HEADER}\nloop,ann,10,20,0,300\nloop,ann,10,20,900,300\n")
    (loop,) = read_recordings(tmp_path, GazeOptions()).stimuli
    assert loop.is_video and loop.fixations.size == (48, 64)
    assert has_note(loop.notes, "1 of 2 fixations begin after its end at 0.800 s")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "fixations.csv is empty; its first line is a header with the columns stimulus"),
        ("1,2,3\n", "has no header: its first line is '1,2,3', and a header has the columns stimulus"),
        ("stimulus,x,y\n", "has no column observer, start_ms, duration_ms .or end_ms.: its header is"),
        (HEADER + ",X\n", "has two columns for x, 'x' and 'X': remove or rename one"),
        (HEADER + "\n", "has no row that can be read"),
        (HEADER + "\nhouse.png,ann,a,2,3,40\n", "no row that can be read: .* not a number"),
        (HEADER + "\nhouse.png,ann,,2,3,40\n", "no row of fixations.csv can be used: .* lack a position"),
        (HEADER + '\nhouse.png,ann,"1,5",2.5,3,40\n', "decimal comma, as '1,5', and with a decimal point"),
        (HEADER + "\nhome.png,ann,1,2,3,40\n", "no stimulus of fixations.csv has a file .* names 'home.png'"),
        ("img,subj,x,y,start,duration\nhouse.png,ann,1,2,3,10\n", "duration is .* is 10.: add --time-unit"),
        ("img,subj,x,y,start,end\nhouse.png,ann,1,2,3,13\n", "whether start is .* --time-unit ms"),
        (HEADER + "\n" + "1" * 100_001, "line 2 has 100,000 characters or more"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_read(tmp_path, text, pattern):
    with pytest.raises(AvsalError, match=pattern):
        read_recordings(write_table(write_stimuli(tmp_path), text), GazeOptions())


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(AvsalError, match="there is no folder .*none of recordings"):
        read_recordings(tmp_path / "none", GazeOptions())
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(
        AvsalError, match="has neither fixations.csv nor gaze.csv .*, but notes.md; the first"
    ):
        read_recordings(tmp_path, GazeOptions())
    write_table(tmp_path, table())
    with pytest.raises(AvsalError, match="cannot list the stimuli in .*stimuli: No such file"):
        read_recordings(tmp_path, GazeOptions())
    (tmp_path / "stimuli").mkdir()
    with pytest.raises(AvsalError, match="holds no file: put the pictures"):
        read_recordings(tmp_path, GazeOptions())
    write_table(write_stimuli(tmp_path), table(), "fixations.tsv")
    with pytest.raises(AvsalError, match="holds fixations.csv and fixations.tsv: put all rows into one"):
        read_recordings(tmp_path, GazeOptions())


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"time_origin": "last"}, "--time-origin is a time as in the file, or `first`; got 'last'"),
        ({"screen": (800, 600)}, "go together"),
        ({"screen": (800, 600), "stimulus_rect": (0, 0, 801, 5)}, "801,5 does not lie on a screen of 800x"),
        ({"screen": (800, 600), "stimulus_rect": (-1, 0, 5, 5)}, "does not lie on a screen"),
        ({"screen": (800, 600), "stimulus_rect": (0, 0, 0, 5)}, "does not lie on a screen"),
        ({"screen": (800,), "stimulus_rect": (0, 0, 5, 5)}, "--screen is WxH"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(options, pattern):
    with pytest.raises(AvsalError, match=pattern):
        GazeOptions(**options)


# Samples: 120 Hz, 32 pixels per degree, two fixations of 400 ms with 30 ms between them.
RATE, PIXELS_PER_DEGREE = 120, 32.0
SAMPLED = GazeOptions(pixels_per_degree=PIXELS_PER_DEGREE)


def samples(start: float = 0.0) -> list[tuple[float, float, float]]:
    """Returns (ms, x, y); noise of 0.03 degrees."""
    generator = np.random.default_rng(3)
    rows = []
    for index in range(100):
        time = index / RATE
        share = min(max((time - 0.4) / 0.03, 0), 1)
        x, y = np.array([60.0, 80.0]) * (1 - share) + np.array([250.0, 180.0]) * share
        noise = generator.normal(0, 1, 2)
        rows.append((start + 1000 * time, x + noise[0], y + noise[1]))
    return rows


def sampled(rows=None, header: str = "stimulus,observer,time_ms,x,y", form=lambda row: row) -> str:
    lines = [header, *("house.png,ann," + ",".join(map(str, form(row))) for row in rows or samples())]
    return "\n".join(lines)


def check_two_fixations(gaze_set) -> None:
    # The noise has a standard deviation of 1 pixel, so the mean of 48 samples lies within 0.5 pixels; I-DT
    # adds up to 1 degree of the saccade (32 pixels, one sample of 48). I-VT leaves out one sample at either
    # end of a saccade, which itself begins and ends between samples.
    rows = [row[2:] for row in all_rows(gaze_set)]
    np.testing.assert_allclose([row[:2] for row in rows], [(60, 80), (250, 180)], atol=1)
    np.testing.assert_allclose([row[2] for row in rows], [0, 0.43], atol=2 / RATE)
    np.testing.assert_allclose([row[3] for row in rows], [0.4, 0.403], atol=3 / RATE)


@pytest.mark.parametrize("events", ["ivt", "idt"])
@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("stimulus,observer,time_ms,x,y", lambda row: row),
        ("stimulus,observer,t,gaze_x,gaze_y", lambda row: row),
        ("stimulus,observer,time,x,y", lambda row: (row[0] / 1000, *row[1:])),
        ("stimulus,observer,timestamp_us,x,y", lambda row: (row[0] * 1000, *row[1:])),
        ("stimulus,observer,time,x,y,valid", lambda row: (*row, 1)),
        ("stimulus,observer,time,x,y,validity", lambda row: (*row, "Valid")),
        ("stimulus,observer,time,x,y,pupil", lambda row: (*row, 3.1)),
        ("stimulus,observer,time,x,y", lambda row: (row[0], row[1] / WIDTH, row[2] / HEIGHT)),
        (
            "MediaName,ParticipantName,RecordingTimestamp,GazePointLeftX (ADCSpx),GazePointLeftY (ADCSpx),"
            "GazePointRightX (ADCSpx),GazePointRightY (ADCSpx),ValidityLeft,ValidityRight",
            lambda row: (row[0], row[1] - 4, row[2], row[1] + 4, row[2], 0, 0),
        ),
    ],
)
def test_samples_become_fixations(tmp_path, events, header, form):
    root = write_table(write_stimuli(tmp_path), sampled(header=header, form=form), "gaze.csv")
    gaze_set = read_recordings(root, GazeOptions(pixels_per_degree=PIXELS_PER_DEGREE, events=events))
    check_two_fixations(gaze_set)
    rule = {
        "ivt": "I-VT, samples slower than 30 degrees",
        "idt": "I-DT, samples that extend at most 1 degree",
    }
    assert has_note(
        gaze_set.notes,
        f"2 fixations (--events {events}) by",
        rule[events],
        "of at least 60 ms",
        "32 pixels per degree",
    )
    assert has_note(gaze_set.notes, "120 samples per second")


@pytest.mark.parametrize(
    ("header", "loss", "reason"),
    [
        ("stimulus,observer,time_ms,x,y", lambda row: (row[0], "", ""), "6 without a position"),
        ("stimulus,observer,time_ms,x,y", lambda row: (row[0], ".", "NaN"), "6 without a position"),
        ("stimulus,observer,time_ms,x,y", lambda row: (row[0], 0, 0), "6 at (0, 0) or (-1, -1)"),
        ("stimulus,observer,time_ms,x,y", lambda row: (row[0], -1, -1), "6 at (0, 0) or (-1, -1)"),
        ("stimulus,observer,time_ms,x,y", lambda row: (row[0], -32768, -32768), "6 at (0, 0) or (-1, -1)"),
        ("stimulus,observer,time_ms,x,y,pupil", lambda row: (row[0], 9, 9, 0), "6 with a pupil of 0"),
        ("stimulus,observer,time_ms,x,y,valid", lambda row: (row[0], 9, 9, 0), "6 marked as not valid"),
        ("stimulus,observer,time_ms,x,y,validity", lambda row: (row[0], 9, 9, "Invalid"), "6 marked as"),
        ("stimulus,observer,time_ms,x,y,validity", lambda row: (row[0], 9, 9, 4), "6 marked as not valid"),
        ("stimulus,observer,time_ms,x,y,validity", lambda row: (row[0], "", "", 1), "6 without a position"),
        (
            "stimulus,observer,time_ms,x,y,validity",
            lambda row: (row[0], -1, -1, 1),
            "6 at (0, 0) or (-1, -1)",
        ),
    ],
)
def test_lost_samples_are_bridged_and_counted(tmp_path, header, loss, reason):
    """Six samples of the first fixation, 50 ms, are lost."""
    good = {"pupil": (3.0,), "valid": (1,), "validity": (0,)}.get(header.split(",")[-1], ())
    if "Invalid" in loss((0, 0, 0)):
        good = ("Valid",)
    lines = [(*row, *good) for row in samples()]
    lines[10:16] = [loss(row) for row in lines[10:16]]
    root = write_table(write_stimuli(tmp_path), sampled(lines, header), "gaze.csv")
    gaze_set = read_recordings(root, SAMPLED)
    check_two_fixations(gaze_set)
    assert has_note(gaze_set.notes, "6 of 100 samples are lost, as in a blink:", reason)
    meanings = (
        "1 in valid means valid",
        "0 in validity means valid",
        "codes from 0 (valid)",
        "says in words",
    )
    assert ("valid" in header) == any(has_note(gaze_set.notes, meaning) for meaning in meanings)


def test_samples_with_times_of_the_recording(tmp_path):
    root = write_table(write_stimuli(tmp_path), sampled(samples(183_746)), "gaze.csv")
    gaze_set = read_recordings(root, SAMPLED)
    check_two_fixations(gaze_set)
    assert has_note(gaze_set.notes, "viewings of pictures begin far from 0")
    options = GazeOptions(pixels_per_degree=PIXELS_PER_DEGREE, drop_first=True)
    ((_, _, x, *_),) = all_rows(read_recordings(root, options))
    assert x == pytest.approx(250, abs=1)


def test_damaged_samples_are_counted(tmp_path):
    text = sampled() + "\nhouse.png,ann,,5,5\nhouse.png,ann,0,5,5\nhouse.png,ann,x,5,5\n"
    gaze_set = read_recordings(write_table(write_stimuli(tmp_path), text, "gaze.csv"), SAMPLED)
    assert has_note(gaze_set.notes, "1 row left out, which lack the time (first in line 102)")
    assert has_note(gaze_set.notes, "1 row left out, whose time another sample of the viewing has")
    assert has_note(gaze_set.notes, "1 row left out, which have a cell that is not a number")


@pytest.mark.parametrize(
    ("text", "options", "pattern"),
    [
        (sampled(), GazeOptions(), "add --pixels-per-degree, the pixels of .* distance_cm . tan"),
        (
            sampled(header="stimulus,observer,time,x,y", form=lambda row: (row[0] * 10, *row[1:])),
            SAMPLED,
            "whether time is in seconds or milliseconds .a typical value is 83.3333.: add --time-unit",
        ),
        (
            sampled(
                header="stimulus,observer,time,x,y,validity",
                form=lambda row: (*row, int(row[0] > 100)),
            ),
            SAMPLED,
            "does not show which number in validity means valid: rename the column to `valid`",
        ),
        (
            sampled(header="stimulus,observer,time,x,y,validity", form=lambda row: (*row, 7)),
            SAMPLED,
            "has values in validity that are not a validity",
        ),
    ],
)
def test_samples_that_cannot_be_read(tmp_path, text, options, pattern):
    with pytest.raises(AvsalError, match=pattern):
        read_recordings(write_table(write_stimuli(tmp_path), text, "gaze.csv"), options)


def test_fixations_come_before_samples(tmp_path):
    root = write_table(write_table(write_stimuli(tmp_path), table()), sampled(), "gaze.csv")
    gaze_set = read_recordings(root, GazeOptions())
    assert len(all_rows(gaze_set)) == len(ROWS)
    assert has_note(gaze_set.notes, "fixations.csv is read, and gaze.csv is not")
