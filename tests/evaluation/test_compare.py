"""Joined tables, the six-set mean, paired differences, and what does not compare."""

import json
import math

import numpy as np
import pytest
import scipy.stats

from avsal_jax import AvsalError, published
from avsal_jax.cli.main import main
from avsal_jax.evaluation.compare import bootstrap_interval, compare
from avsal_jax.evaluation.results import read_results
from tests.evaluation.folders import write_result

SIX_SETS = ("diem", "coutrot1", "coutrot2", "avad", "etmd", "summe")


def compared(*texts):
    return compare([result for text in texts for result in read_results(str(text))])


def score(comparison, method, dataset):
    (result,) = [s for s in comparison.scores if (s.method, s.dataset) == (method, dataset)]
    return result


# What Fan et al. print and what is the mean of the sets that they average.
MISPRINTS = {("AViNet(C)", "cc"): (0.6167, 0.6100), ("STAViS(AV)", "auc_judd"): (0.854, 0.9078)}


class TestSixSetMean:
    """Fan et al. 2022, Tables 3 and 4, print the means of what Jain et al. 2021 print for each set."""

    @pytest.mark.parametrize(
        "method, table, label",
        [
            ("AViNet(B)", "3", "Dual-domain(B)"),
            ("AViNet(C)", "3", "Dual-domain(C)"),
            ("AViNet(T)", "4", "AViNet(T)"),
        ],
    )
    def test_means_of_the_published_sets_are_the_published_means(self, method, table, label):
        mean = score(compared(f"published:{method}"), f"{method}, printed by avinet", "six_sets")
        (printed,) = [r for r in published.rows("six_sets", label, "dual_domain") if r.table == table]
        assert set(mean.metrics) == set(printed.metrics) == {"cc", "nss", "auc_judd", "sim", "auc_shuffled"}
        for metric, value in printed.metrics.items():
            digits = 3 if (metric, table) == ("nss", "3") else 4  # Table 3 prints NSS with three decimals
            misprint, expected = MISPRINTS.get((method, metric), (value, value))
            assert value == misprint
            assert abs(mean.metrics[metric] - expected) <= 0.5 * 10**-digits + 1e-9, metric

    def test_the_other_misprint_is_the_auc_of_stavis(self):
        """The rest agrees to .0005 only: papers differ by .001 in what they print of STAViS."""
        mean = score(compared("published:STAViS(AV)"), "STAViS(AV), printed by avinet", "six_sets")
        (printed,) = published.rows("six_sets", "STAViS(AV)")
        for metric, value in printed.metrics.items():
            misprint, expected = MISPRINTS.get(("STAViS(AV)", metric), (value, value))
            assert value == misprint
            assert abs(mean.metrics[metric] - expected) < 5e-4, metric

    def test_it_needs_all_six(self, tmp_path):
        folders = [
            write_result(tmp_path / name, {"cc": {"a": 0.1 * i, "b": 0.1 * i}, "kl": {"a": 1.0, "b": 2.0}},
                         dataset=name, protocol="vinet" if i else "stavis")
            for i, name in enumerate(SIX_SETS)
        ]  # fmt: skip
        comparison = compared(*folders[:4])
        assert comparison.missing == {"ours": ("etmd", "summe")}
        assert [s.dataset for s in comparison.scores] == list(SIX_SETS[:4])
        comparison = compared(*folders)
        mean = score(comparison, "ours", "six_sets")
        assert mean.metrics == pytest.approx({"cc": 0.25, "kl": 1.5}) and mean.videos == 12
        assert not comparison.missing and mean.protocol == "stavis and vinet"
        assert comparison.notes == ("ours on six_sets: scored by several protocols",)

    def test_printed_means_appear_with_computed_ones(self):
        comparison = compared("published:AViNet(B)", "published:Dual-domain(CM)")
        assert (
            score(comparison, "Dual-domain(CM), printed by dual_domain", "six_sets").metrics["cc"] == 0.6138
        )
        assert comparison.base is None and not comparison.differences


class TestDifferences:
    def test_pairs_by_name_against_the_first(self, tmp_path):
        first = write_result(
            tmp_path / "a", {"cc": {"x": 0.5, "y": 0.25, "z": 0.1}, "sim": {"x": 1.0, "y": 1.0, "z": 1.0}}
        )
        values = {"cc": {"y": 0.5, "x": 0.5, "w": 0.9}, "nss": {"x": 1.0, "y": 1.0, "w": 1.0}}
        second = write_result(tmp_path / "b", values, method="theirs")
        comparison = compared("published:AViNet(B)", first, second)
        assert comparison.base == "ours"
        (difference,) = comparison.differences  # cc alone is in both
        assert (difference.method, difference.base, difference.metric, difference.videos) == (
            "theirs",
            "ours",
            "cc",
            2,
        )
        assert difference.mean == 0.125
        assert (difference.low, difference.high) == (
            0.0,
            0.25,
        )  # of two: both the same one, one time in four each

    def test_dropped_videos_do_not_pair(self, tmp_path):
        first = write_result(tmp_path / "a", {"cc": {"x": 0.5, "y": None, "z": 0.1}})
        second = write_result(tmp_path / "b", {"cc": {"x": 0.75, "y": 0.5, "z": None}}, method="theirs")
        (difference,) = compared(first, second).differences
        assert (difference.videos, difference.mean) == (1, 0.25)
        assert math.isnan(difference.low) and math.isnan(difference.high)

    def test_folds_average_and_a_video_of_two_folds_counts_once(self, tmp_path):
        def folds(method, values):
            return [
                write_result(tmp_path / f"{method}{i}", {"cc": v}, method=method, dataset="avad", fold=i)
                for i, v in enumerate(values, 1)
            ]

        base = folds("ours", [{"x": 0.1, "y": 0.2}, {"y": 0.4}])
        candidate = folds("theirs", [{"x": 0.2, "y": 0.3}, {"y": 0.7}])
        comparison = compared(*base, *candidate)
        assert score(comparison, "ours", "avad").metrics["cc"] == pytest.approx((0.15 + 0.4) / 2)
        assert score(comparison, "ours", "avad").folds == (1, 2)
        (difference,) = comparison.differences
        assert (difference.videos, difference.mean) == (2, pytest.approx((0.1 + 0.2) / 2))
        pooled = []  # several folds in one folder
        for method, values in (("a", (0.1, 0.2, 0.4)), ("b", (0.2, 0.3, 0.7))):
            scores = {"cc": dict(zip(("1:x", "1:y", "2:y"), values, strict=True))}
            pooled.append(write_result(tmp_path / method, scores, method=method, dataset="avad"))
        (pooled_row,) = compared(*pooled).differences
        assert (pooled_row.videos, pooled_row.mean, pooled_row.low, pooled_row.high) == (
            2, pytest.approx(difference.mean), pytest.approx(difference.low), pytest.approx(difference.high),
        )  # fmt: skip

    def test_different_numbers_of_videos_are_reported(self, tmp_path):
        write_result(tmp_path / "a", {"cc": {"x": 0.5, "y": 0.5}})
        write_result(tmp_path / "b", {"cc": {"x": 0.5}}, method="theirs")
        assert compared(tmp_path / "a", tmp_path / "b").notes == (
            "the means on diem are over different numbers of videos: ours 2, theirs 1",
        )


VALUES = {"cc": {"x": 0.5, "y": 0.25}}


class TestOverrides:
    def test_different_overrides_on_a_set_are_reported(self, tmp_path):
        plain = write_result(tmp_path / "a", VALUES)
        overridden = {"postprocess": "vinet", "smoothing": 0.5, "audio": "off", "coding_iterations": 3}
        other = write_result(tmp_path / "b", VALUES, method="theirs", **overridden)
        flags = "--smoothing 0.5 --postprocess vinet --audio off --coding-iterations 3"
        assert compared(plain, other).notes == (
            f"theirs on diem: evaluated with {flags}",
            f"the results on diem were evaluated with different overrides: ours none; theirs {flags}",
        )

    def test_equal_overrides_are_only_stated(self, tmp_path):
        a = write_result(tmp_path / "a", VALUES, postprocess="vinet")
        b = write_result(tmp_path / "b", VALUES, method="theirs", postprocess="vinet")
        assert compared(a, b, "published:STAViS(AV)@avinet").notes[:2] == (
            "ours on diem: evaluated with --postprocess vinet",
            "theirs on diem: evaluated with --postprocess vinet",
        )
        assert not any("different overrides" in note for note in compared(a, b).notes)

    def test_a_mean_over_sets_with_different_overrides_has_a_note(self, tmp_path):
        folders = [
            write_result(tmp_path / name, VALUES, dataset=name, **({"audio": "off"} if i else {}))
            for i, name in enumerate(SIX_SETS)
        ]
        assert "ours on six_sets: evaluated with several overrides" in compared(*folders).notes

    @pytest.mark.parametrize("value", [True, [1], "", math.inf])
    def test_a_damaged_override_is_an_error(self, tmp_path, value):
        folder = write_result(tmp_path / "a", VALUES, smoothing=value)
        with pytest.raises(AvsalError, match="summary.json is damaged: smoothing is"):
            compared(folder)


class TestBootstrap:
    def test_zeros_and_ones_follow_the_binomial_distribution(self):
        """The sum of N draws from k ones is binomial: its quantiles are the percentile interval's ends."""
        for ones, count in ((10, 40), (7, 25), (60, 80)):
            values = np.r_[np.ones(ones), np.zeros(count - ones)]
            exact = scipy.stats.binom.ppf([0.025, 0.975], count, ones / count) / count
            np.testing.assert_allclose(bootstrap_interval(values), exact, atol=1.01 / count)
            middle = scipy.stats.binom.ppf([0.25, 0.75], count, ones / count) / count
            np.testing.assert_allclose(bootstrap_interval(values, level=0.5), middle, atol=1e-9)

    def test_width_is_that_of_the_normal_distribution_for_many_videos(self):
        values = np.random.default_rng(5).normal(0.3, 2.0, 400)
        half = 1.96 * values.std() / 20
        low, high = bootstrap_interval(values)
        assert low == pytest.approx(values.mean() - half, abs=0.06 * half)
        assert high == pytest.approx(values.mean() + half, abs=0.06 * half)

    def test_it_is_seeded_and_shifts_with_the_values(self):
        values = np.random.default_rng(0).normal(size=30)
        assert bootstrap_interval(values) == bootstrap_interval(values)
        assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)
        np.testing.assert_allclose(bootstrap_interval(values + 3), np.add(bootstrap_interval(values), 3))
        assert bootstrap_interval(np.full(5, 0.25)) == (0.25, 0.25)

    def test_groups_are_drawn_whole(self):
        """Of two groups, a quarter of resamples has the first twice, half has both, a quarter the second."""
        values, groups = np.array([0.0, 3.0, 3.0, 10.0]), ["a", "a", "a", "b"]
        assert bootstrap_interval(values, groups) == (2.0, 10.0)
        assert bootstrap_interval(values, groups, level=0.4) == (4.0, 4.0)  # both: the mean of all four
        assert bootstrap_interval(values[:3], groups[:3]) == pytest.approx((np.nan, np.nan), nan_ok=True)

    def test_a_group_of_each_video_changes_nothing(self):
        values = np.random.default_rng(0).normal(size=9)
        assert bootstrap_interval(values, list("abcdefghi")) == bootstrap_interval(values)

    def test_rows_of_the_same_groups_share_their_resamples(self):
        values, groups = np.random.default_rng(1).normal(size=6), ["x", "x", "y", "z", "z", "w"]
        assert bootstrap_interval(values - values, groups) == (0.0, 0.0)
        shifted = bootstrap_interval(values - 2, groups)
        np.testing.assert_allclose(shifted, np.subtract(bootstrap_interval(values, groups), 2), atol=1e-12)

    def test_videos_without_a_value_are_left_out(self):
        values, groups = np.array([1.0, np.nan, 2.0, np.nan, 4.0]), ["a", "a", "b", "c", "d"]
        assert bootstrap_interval(values, groups) == bootstrap_interval(values[[0, 2, 4]])


class TestRefusals:
    """Each is one line on the terminal and exit code 2; nothing is written."""

    def refused(self, tmp_path, capsys, *texts):
        assert main(["compare", *map(str, texts), "--output", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and not (tmp_path / "out").exists()
        return error

    def pair(self, tmp_path, **other):
        about = {"method": "theirs", "dataset": "avad", **other}
        return (
            write_result(tmp_path / "a", {"cc": {"x": 0.5, "y": 0.25}}, dataset="avad"),
            write_result(tmp_path / "b", {"cc": {"x": 0.5, "y": 0.5}}, **about),
        )

    def test_different_protocols_and_splits(self, tmp_path, capsys):
        error = self.refused(tmp_path, capsys, *self.pair(tmp_path, protocol="vinet"))
        assert f"{tmp_path}/a has protocol stavis on avad, {tmp_path}/b has vinet: their numbers are" in error
        error = self.refused(tmp_path / "2", capsys, *self.pair(tmp_path / "2", split="val"))
        assert "has split test on avad" in error and "has val" in error
        error = self.refused(tmp_path / "3", capsys, *self.pair(tmp_path / "3", fold=2))
        assert "has folds None on avad" in error and "has 2" in error

    def test_different_sets_may_differ_and_diem_has_one_split(self, tmp_path):
        compared(*self.pair(tmp_path, protocol="vinet", dataset="etmd"))
        first = write_result(tmp_path / "c", {"cc": {"x": 0.5, "y": 0.25}}, fold=1)
        second = write_result(tmp_path / "d", {"cc": {"x": 0.5, "y": 0.25}}, method="theirs")
        assert compared(first, second).differences[0].videos == 2

    def test_no_common_video(self, tmp_path, capsys):
        first = write_result(tmp_path / "a", {"cc": {"x": 0.5}})
        second = write_result(tmp_path / "b", {"cc": {"y": 0.5}}, method="theirs")
        error = self.refused(tmp_path, capsys, first, second)
        assert f"{first} and {second} have no video of diem in common; evaluate both with the same" in error

    def test_the_same_twice_unless_named(self, tmp_path, capsys):
        first, second = self.pair(tmp_path, method="ours")
        error = self.refused(tmp_path, capsys, first, second)
        assert "both contain 'ours' on avad; rename one of them: LABEL=FOLDER" in error
        assert compared(first, f"again={second}").methods == ("ours", "again")
        error = self.refused(tmp_path, capsys, first, f"a\nb={second}")
        assert "contains characters that cannot be printed" in error

    def test_unknown_published_method(self, tmp_path, capsys):
        error = self.refused(tmp_path, capsys, "published:AVNet(B)")
        assert "no paper here prints a method 'AVNet(B)'; did you mean" in error and "ViNet" in error

    def test_the_key_of_a_published_row(self, tmp_path, capsys):
        result = write_result(tmp_path / "a", {"cc": {"x": 0.5}}, dataset="dhf1k", split="val")
        key, output = "avinet:2:ViNet(T=16)", str(tmp_path / "compared")
        for text in (f"published:{key}", f"published:{key}:dhf1k"):
            assert main(["compare", str(result), text, "--output", output]) == 0
            line = next(line for line in capsys.readouterr().out.splitlines() if "ViNet(T=16)" in line)
            assert "0.5112" in line and "2.9067" in line
        error = self.refused(tmp_path, capsys, "published:avinet:2:ViNet(T=17)")
        assert f"no published row has the key 'avinet:2:ViNet(T=17)' (did you mean '{key}'?)" in error

    def test_no_result(self, tmp_path, capsys):
        assert "nowhere is not a result: it is not a folder" in self.refused(
            tmp_path, capsys, tmp_path / "nowhere"
        )
        (tmp_path / "empty").mkdir()
        error = self.refused(tmp_path, capsys, tmp_path / "empty")
        assert "has no summary.json; give a folder that `avsal evaluate` wrote, or published:METHOD" in error
        (tmp_path / "empty" / "summary.json").write_text('{"source": "clip.mp4", "maps": 3}')
        assert "its summary.json was written by another command" in self.refused(
            tmp_path, capsys, tmp_path / "empty"
        )

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"videos": None}, "summary.json is damaged: videos is 'None'"),
            ({"videos": 3}, "videos.csv is damaged: it has 2 videos, summary.json says 3"),
            ({"fold": True}, "summary.json is damaged: fold is 'True'"),
            ({"method": "a\x1b[31m"}, "summary.json is damaged: method is "),
            ({"metrics": {"cc": 3}}, "summary.json is damaged: "),
            ({"metrics": {"cc": {"mean": "high"}}}, "summary.json is damaged: the mean of cc is 'high'"),
            ({"metrics": {"cc": {"mean": True}}}, "summary.json is damaged: the mean of cc is 'True'"),
            ({"metrics": {"cc": {"mean": 10**400}}}, "summary.json is damaged: a value is infinite"),
            (
                {"metrics": {"cc": "high"}},
                "summary.json is damaged: its metric cc is not an object with a mean",
            ),
            ({"metrics": ["cc"]}, "summary.json is damaged: what it holds is not what belongs there"),
            ({"metrics": {"cc": {}}}, "summary.json is damaged: it has no 'mean'"),
            ({"format": "avsal_jax evaluation 9"}, "this version reads 'avsal_jax evaluation 1'"),
        ],
    )
    def test_damaged_summary(self, tmp_path, capsys, change, message):
        folder = write_result(tmp_path / "a", {"cc": {"x": 0.5, "y": 0.25}}, **change)
        assert message in self.refused(tmp_path, capsys, folder)

    def test_a_summary_cut_short_or_too_long(self, tmp_path, capsys):
        folder = write_result(tmp_path / "a", {"cc": {"x": 0.5}})
        text = (folder / "summary.json").read_text()
        (folder / "summary.json").write_text(text[:80])
        assert "summary.json is damaged: " in self.refused(tmp_path, capsys, folder)
        (folder / "summary.json").write_text(text + " " * 1_000_000)
        assert "has more than 1000000 bytes" in self.refused(tmp_path, capsys, folder)
        summary = json.loads(text)
        del summary["protocol"]
        (folder / "summary.json").write_text(json.dumps(summary))
        assert "it has no 'protocol'; evaluate again" in self.refused(tmp_path, capsys, folder)

    @pytest.mark.parametrize(
        "text, message",
        [
            ("video,frames,cc\nx,10,0.5\ny,10\n", "line 3 has 2 cells, the header 3"),
            ("video,frames,cc\nx,10,0.5\nx,10,0.5\n", "x is listed twice"),
            ("video,frames,cc\nx,10,0.5\ny,10,high\n", "line 3 has 'high' in place of a number"),
            ("video,frames,cc\nx,10,0.5\ny,10,inf\n", "line 3 has 'inf'"),
            ("video,frames,cc,cc\nx,10,0.5,0.5\n", "its header is not video,frames, and distinct metrics"),
            ("video,frames\nx,10\ny,10\n", "its header is not video,frames, and distinct metrics"),
            ("", "its header is not video,frames"),
            ('video,frames,cc\n"x,10,0.5\n', "unexpected end of data"),
            ("video,frames,cc\nx,10,0.5\n\x00\xff,1,1\n", "is damaged: "),
            ("video,frames,cc\nx,10,0.5\ny\x07,1,1\n", "video is 'y"),
            (None, "No such file"),
        ],
    )
    def test_damaged_table(self, tmp_path, capsys, text, message):
        folder = write_result(tmp_path / "a", {"cc": {"x": 0.5, "y": 0.25}})
        (folder / "videos.csv").unlink()
        if text is not None:
            (folder / "videos.csv").write_bytes(text.encode("latin-1"))
        error = self.refused(tmp_path, capsys, folder)
        assert f"{folder}/videos.csv is damaged: " in error and message in error and "evaluate again" in error
