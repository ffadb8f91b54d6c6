"""The papers' tables: counts, values read by eye, and what the papers say of each other's rows."""

import collections
import re

import pytest

from avsal_jax import AvsalError, published

SIX = ["diem", "coutrot1", "coutrot2", "avad", "etmd", "summe"]


def test_every_table_is_complete():
    """Rows times sets of each table in the papers."""
    counts = collections.Counter((row.paper, row.table or row.section) for row in published.rows())
    assert counts == {
        ("avinet", "1"): 2,
        ("avinet", "2"): 4,
        ("avinet", "3"): 7 * 3,
        ("avinet", "4"): 8 * 3,
        ("avinet", "5"): 8 * 3,
        ("avinet", "6"): 6 * 4,
        ("avinet", "4.4"): 2,
        ("casp_net", "1"): 3 * 2,
        ("casp_net", "2"): 5 * 2,
        ("casp_net", "3"): 6 * 2,
        ("casp_net", "4"): 12 * 3,
        ("casp_net", "5"): 12 * 3,
        ("avrsp", "I"): 12 * 3,
        ("avrsp", "II"): 12 * 3,
        ("avrsp", "III"): 8 * 2,
        ("avrsp", "IV"): 10,
        ("avrsp", "V"): 7 * 2,
        ("dual_domain", "2"): 6 + 6,
        ("dual_domain", "3"): 3,
        ("dual_domain", "4"): 3,
    }


# Read by eye in the papers, one or more of every table: CC, NSS, AUC-J, SIM, s-AUC (-: not printed).
SPOTS = [
    ("avinet", "1", "dhf1k", "ViNet(without hierarchy)", "0.5002 2.7371 - 0.361 -"),
    ("avinet", "2", "dhf1k", "ViNet(T=48)", "0.5231 2.9477 - 0.3807 -"),
    ("avinet", "3", "dhf1k", "ViNet", "0.510 2.87 0.908 0.381 0.728"),
    ("avinet", "3", "hollywood2", "UNISAL", "0.673 3.90 0.934 0.542 0.795"),
    ("avinet", "3", "ucf", "SalSAC", "0.671 3.52 0.926 0.534 0.806"),
    ("avinet", "4", "diem", "AViNet(T)", "0.637 2.54 0.901 0.504 0.722"),
    ("avinet", "4", "coutrot1", "ViNet(NF)", "0.509 2.46 0.875 0.406 0.619"),
    ("avinet", "4", "coutrot2", "AViNet(C)", "0.753 5.81 0.951 0.486 0.743"),
    ("avinet", "5", "avad", "ACLNet", "0.58 3.17 0.905 0.446 0.56"),
    ("avinet", "5", "etmd", "AViNet(B)", "0.571 3.08 0.928 0.406 0.733"),
    ("avinet", "5", "summe", "TASED-Net", "0.428 2.1 0.884 0.333 0.657"),
    ("avinet", "6", "ave", "Human infinite", "0.644 3.41 0.854 0.514 0.757"),
    ("avinet", "6", "ave:nature", "Mean eye position", "0.471 1.76 0.869 0.368 0.686"),
    ("avinet", "6", "ave:social", "AViNet", "0.688 2.96 0.914 0.536 0.765"),
    ("avinet", "6", "ave:miscellaneous", "DAVE", "0.549 2.39 0.881 0.454 0.736"),
    ("avinet", "4.4", "dhf1k", "ViNet(transposed)", "0.5178 - - - -"),
    ("casp_net", "1", "etmd", "CASP-Net(V, decoder UNet)", "0.611 3.27 - 0.468 -"),
    ("casp_net", "2", "avad", "CASP-Net(V+A+I linear+C)", "0.685 - - 0.528 -"),
    ("casp_net", "3", "avad", "CASP-Net(AVIM on 3)", "0.673 - - 0.514 -"),
    ("casp_net", "4", "diem", "CASP-Net(AV)", "0.655 2.61 0.906 0.543 -"),
    ("casp_net", "4", "coutrot2", "CASP-Net(AV, from scratch)", "0.766 6.11 0.963 0.573 -"),
    ("casp_net", "4", "coutrot2", "TSFP-Net(V)", "0.718 5.30 0.957 0.516 -"),
    ("casp_net", "5", "summe", "CASP-Net(V)", "0.485 2.52 0.904 0.382 -"),
    ("avrsp", "I", "avad", "AVRSP(AV)", "0.704 3.84 0.933 0.549 -"),
    ("avrsp", "II", "coutrot2", "AVRSP(V)", "0.820 6.28 0.963 0.602 -"),
    ("avrsp", "II", "summe", "DAVS(AV)", "0.423 2.29 0.889 0.339 -"),
    ("avrsp", "III", "avad", "AVRSP(AV, MRG)", "0.692 3.72 0.930 0.544 -"),
    ("avrsp", "IV", "diem", "AVRSP(AV, 2 pairs)", "0.681 2.80 0.907 0.554 -"),
    ("avrsp", "V", "avad", "AVRSP(AV, MBT)", "0.697 3.78 0.927 0.541 -"),
    ("dual_domain", "2", "nature", "Dual-domain(from Social, DA(audio))",
     "0.4951 2.064 0.8721 0.3964 0.6016"),
    ("dual_domain", "2", "diem", "Dual-domain(from AVAD, w/o DA)", "0.5640 2.281 0.8857 0.4710 0.6744"),
    ("dual_domain", "3", "six_sets", "Dual-domain(CM)", "0.6138 3.428 0.9191 0.4735 0.6757"),
    ("dual_domain", "4", "six_sets", "STAViS(AV)", "0.5644 2.9683 0.854 0.4345 0.6584"),
]  # fmt: skip


@pytest.mark.parametrize("paper, table, dataset, label, values", SPOTS, ids=lambda v: str(v)[:30])
def test_values_stand_as_printed(paper, table, dataset, label, values):
    (row,) = published.rows_of_key(f"{paper}:{table}:{label}:{dataset}")
    names = ("cc", "nss", "auc_judd", "sim", "auc_shuffled")
    assert row.printed_values == {k: v for k, v in zip(names, values.split(), strict=True) if v != "-"}
    assert row.metrics == {name: float(text) for name, text in row.printed_values.items()}


def test_papers_agree_on_each_others_rows_but_for_what_is_noted():
    """They copied each other's numbers: a slip of a column or line in one transcription would show here."""
    table = collections.defaultdict(list)
    for row in published.rows():
        if not row.note.startswith("repeats the TSFP-Net(AV) row"):
            for metric, value in row.metrics.items():
                table[row.dataset, row.split, row.label, metric].append((row.paper, value))
    compared = 0
    for key, values in table.items():
        if len({paper for paper, _ in values}) > 1 and key[0] != "six_sets":
            compared += 1
            low, high = min(v for _, v in values), max(v for _, v in values)
            assert high - low < 0.0011, (key, values)
    assert compared > 200


def test_ablations_end_in_the_papers_own_rows():
    for dataset in ("diem", "avad"):
        metrics = published.rows(dataset, "AVRSP(AV)")[0].metrics
        for label in ("AVRSP(AV, MS+MRG)", "AVRSP(AV, RAVF)"):
            assert published.rows(dataset, label)[0].metrics == metrics


def test_labels_and_conditions():
    (row,) = published.rows("etmd", "AViNet(B)", "avrsp")
    assert (row.printed, row.label, row.source) == ("ViNet(AV)", "AViNet(B)", "avrsp, Table I")
    assert {r.variant for r in published.rows("diem", "CASP-Net", "casp_net")} == {
        "V", "AV", "V, from scratch", "AV, from scratch",
    }  # fmt: skip
    assert [r.pretraining for r in published.rows("diem", "CASP-Net(AV, from scratch)")] == ["none"]
    assert [r.pretraining for r in published.rows("diem", "CASP-Net(AV)", "casp_net")] == ["dhf1k"]
    misprints = [(r.label, r.table) for r in published.rows() if "misprint" in r.note]
    assert misprints == [("Dual-domain(C)", "3"), ("STAViS(AV)", "4")]
    domain = published.rows("nature")[0]
    assert "Faces has 30 training and 14 test videos, Nature 18 and 10, Social 58 and 15" in domain.note


def test_a_key_and_a_set_name_one_row():
    """On each of its sets, a row of a table has its key alone."""
    names = collections.Counter((row.key, row.dataset) for row in published.rows())
    assert set(names.values()) == {1}
    assert not [row for row in published.rows() if ":" in row.label]
    (row,) = published.rows_of_key("avinet:2:ViNet(T=16)")
    assert (row.variant, row.source) == ("T=16", "avinet, Table 2")
    assert row.figures == "CC 0.5112, SIM 0.378, NSS 2.9067"
    (row,) = published.rows_of_key("avinet:4.4:ViNet(transposed)")
    assert (row.figures, row.source) == ("CC 0.5178", "avinet, Section 4.4")
    assert [r.dataset for r in published.rows_of_key("avinet:4:AViNet(B)")] == SIX[:3]
    assert [r.dataset for r in published.rows_of_key("avinet:6:AViNet:ave")] == ["ave"]
    assert [r.dataset for r in published.rows_of_key("avinet:6:AViNet:ave:social")] == ["ave:social"]


@pytest.mark.parametrize("key", ["avinet:2:ViNet(T=15)", "avinet:2:ViNet(T=16):diem", "ViNet", ""])
def test_unknown_keys(key):
    with pytest.raises(AvsalError, match=f"no published row has the key '{re.escape(key)}'"):
        published.rows_of_key(key)


def test_a_method_comes_from_one_paper():
    assert {r.paper for r in published.method_rows("avinet(b)")} == {"avinet"}  # the one with s-AUC
    assert sorted(r.dataset for r in published.method_rows("CASP-Net(AV)")) == sorted(SIX)
    diem = published.method_rows("STAViS(AV)@avrsp")[0]
    assert (diem.dataset, diem.metrics["cc"]) == ("diem", 0.580)
    assert len(published.method_rows("Dual-domain(CM)")) == 1  # Tables 3 and 4 print the same row


def test_a_key_selects_the_rows_of_one_table():
    (row,) = published.method_rows("avinet:2:ViNet(T=16)")
    assert (row.dataset, row.printed_values["cc"]) == ("dhf1k", "0.5112")
    assert [r.dataset for r in published.method_rows("avinet:4:AViNet(B)")] == SIX[:3]
    assert [r.dataset for r in published.method_rows("avinet:4:AViNet(B):diem")] == ["diem"]
    with pytest.raises(AvsalError, match="no published row has the key 'avinet:2:ViNet'.*did you mean"):
        published.method_rows("avinet:2:ViNet")


@pytest.mark.parametrize(
    "name, message",
    [
        ("AViNet(X)", "no paper here prints a method 'AViNet(X)'; did you mean AViNet("),
        ("stavis", "did you mean STAViS(AV) or STAViS(V)?"),
        ("zzz", "such as AViNet(B), CASP-Net(AV) or AVRSP(AV)"),
        ("AVRSP(AV)@vinet", "AVRSP(AV) is printed by avrsp, not by 'vinet'"),
    ],
)
def test_unknown_methods(name, message):
    with pytest.raises(AvsalError) as error:
        published.method_rows(name)
    assert message in str(error.value)
