"""The report's sentences claim no more than the intervals, the control and the training seeds allow."""

import pytest

from aifeedback_dpo import config
from aifeedback_dpo.compare import headline


def row(policy, against, low, high, seeds=(0.6,)):
    value = (low + high) / 2
    return {
        "policy": policy,
        "against": against,
        "metric": "utility",
        "seeds": list(range(len(seeds))),
        "win_rate": {"value": value, "low": low, "high": high, "prompts": 100},
        "difference": {"value": value - 0.5, "low": low - 0.5, "high": high - 0.5},
        "win_rate_by_training_seed": list(seeds),
        "in_loop": False,
    }


def result(*rows, accuracy=0.7):
    return {
        "compared": ["human", "pickscore"],
        "judges": ["human", "pickscore"],
        "labellers": ["human", "pickscore"],
        "simulated": ["human"],
        "differ_in": {},
        "metrics": [{"name": "utility", "about": "what they want", "truth": True}],
        "duels": list(rows),
        "prompts": 100,
        "confidence": 0.95,
        "labels": {"decided": 9, "accuracy": {"value": accuracy, "low": accuracy, "high": accuracy}},
    }


def against_base(low, high, seeds=(0.6,), *more):
    rows = [
        row("pickscore", "human", 0.4, 0.6, (0.5,)),
        row("human", "base", 0.4, 0.6, (0.5,)),
        row("pickscore", "base", low, high, seeds),
        *more,
    ]
    said = headline.sentences(result(*rows))
    return next(text for text in said if "rained on pickscore" in text and "base model" in text), said


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.51, 0.7, "better than"), (0.3, 0.49, "worse than"), (0.5, 0.7, "no difference seen from")],
)
def test_the_verdict_is_what_the_interval_allows(low, high, words):
    seeds = (0.6,) if low > 0.5 else (0.4,)
    assert words in against_base(low, high, seeds)[0]


def test_a_win_over_base_that_is_none_over_random_labels_says_so():
    control = [row("random", "base", 0.52, 0.7), row("pickscore", "random", 0.45, 0.55)]
    assert "not told apart from random labels" in against_base(0.55, 0.7, (0.6,), *control)[0]
    control = [row("random", "base", 0.45, 0.55), row("pickscore", "random", 0.55, 0.65)]
    assert "not told apart" not in against_base(0.55, 0.7, (0.6,), *control)[0]


def test_a_missing_control_is_told():
    assert any("No policy was trained on random labels" in text for text in against_base(0.55, 0.7)[1])


def test_judges_that_decided_no_pair_together_agree_on_an_undefined_share():
    rows = [row("pickscore", "human", 0.4, 0.6), row("human", "base", 0.4, 0.6), row("pickscore", "base", 0.4, 0.6)]
    assert "an undefined share" in headline.sentences(result(*rows, accuracy=None))[-1]


def test_one_training_seed_is_no_claim_about_labels():
    sentence, said = against_base(0.55, 0.7)
    assert sentence.startswith("The one policy trained on pickscore labels")
    assert any("raise train.seeds before claiming" in text for text in said)
    many = [row("pickscore", "human", 0.4, 0.6, (0.5, 0.5)), row("human", "base", 0.4, 0.6, (0.5, 0.5))]
    said = headline.sentences(result(*many, row("pickscore", "base", 0.55, 0.7, (0.6, 0.7))))
    assert any(text.startswith("Trained on pickscore labels: better than the base") for text in said)
    assert not any("raise train.seeds" in text for text in said)


def test_no_scorer_with_a_hand_in_the_labels_decides():
    """Nor does a member of the consensus: the first scorer beside them does."""
    told = result() | {
        "compared": ["consensus", "clip"],
        "judges": ["consensus", "clip"],
        "labellers": ["clip", "consensus", "hpsv2", "pickscore"],
        "metrics": [{"name": name, "truth": False} for name in ("pickscore", "clip", "aesthetic")],
    }
    assert headline.primary(told) == "aesthetic"
    assert headline.primary(told | {"labellers": ["clip"]}) == "pickscore"


def test_a_share_and_a_mean_that_disagree_are_both_said():
    mixed = row("pickscore", "base", 0.6, 0.8)
    mixed["difference"] = {"value": -0.04, "low": -0.19, "high": 0.1}
    told = result(row("pickscore", "human", 0.4, 0.6), row("human", "base", 0.4, 0.6), mixed)
    (sentence,) = [text for text in headline.sentences(told) if "base model" in text and "pickscore" in text]
    assert "more often preferred to, but lower on average than, the base model" in sentence


def test_few_prompts_are_said_to_be_few():
    told = result(
        *(row(*sides, 0.4, 0.6) for sides in (("pickscore", "human"), ("human", "base"), ("pickscore", "base")))
    )
    assert not any("rough" in text for text in headline.sentences(told))
    assert any("rough" in text for text in headline.sentences(told | {"prompts": 12}))


def between(first, second, *more):
    """Two policies that nothing tells apart, from one judge where both names begin with it."""
    sides = ((second, first), (first, "base"), (second, "base"), *more)
    told = result(*(row(*side, 0.4, 0.6) for side in sides)) | {"compared": [first, second]}
    judges = [name.partition("+")[0] for name in (first, second)]
    return told | {"judges": judges} | ({"labels": None} if judges[0] == judges[1] else {})


@pytest.mark.parametrize("name", ["human", "human+sft", "humanoid+sft", "pickscore+human", "random"])
@pytest.mark.parametrize("raters", ["simulated", "null"])
def test_a_report_names_policies_as_the_command_line_does(name, raters):
    recipe = config.load("shapes", [f"label.raters={raters}"])
    told = {"simulated": ["human"] if raters == "simulated" else []}
    assert headline.title(told, name) == recipe.title(name)


def test_one_judge_is_no_agreement_and_the_settings_that_differ_are_told():
    told = between("human", "human+sft") | {"differ_in": {"train.objective": ["dpo", "sft"], "train.ema": [None, 0.99]}}
    said = headline.sentences(told)
    assert said[0].startswith(
        "The one policy trained as human (simulated)+sft: no difference seen from the policy human (simulated) by utility"
    )
    assert said[1] == (
        "human (simulated) and human (simulated)+sft differ in train.objective (dpo, sft), train.ema (none, 0.99)."
    )
    assert said[-1].startswith("Both policies were trained on human (simulated) labels")
    assert not any("agree on" in text for text in said)
    assert "differ in no setting" in headline.sentences(told | {"differ_in": {}})[1]


def test_settings_that_differ_beside_the_labels_are_a_caveat():
    told = between("human", "pickscore+beta500")
    confounded = headline.sentences(told | {"differ_in": {"train.beta": [2000.0, 500.0]}})
    assert "differ in more than their labels: in train.beta (2000, 500)" in confounded[1]
    assert any("agree on 70 %" in text for text in confounded)
    assert not any("differ" in text.replace("difference", "") for text in headline.sentences(told))


def test_the_control_of_a_named_policy_is_random_labels_under_the_same_name():
    plain = [("random", "base"), ("human", "random")]
    said = headline.sentences(between("human", "human+sft", *plain))
    assert any("with the settings of human (simulated)+sft, so nothing tells" in text for text in said)
    said = headline.sentences(
        between("human", "human+sft", *plain, ("random+sft", "base"), ("human+sft", "random+sft"))
    )
    assert not any("so nothing tells" in text for text in said)
    assert any(
        text.startswith("The one policy trained as random+sft: no difference seen from the base") for text in said
    )
    assert any("+sft: no difference seen from the policy random+sft" in text for text in said)


def test_a_win_of_a_named_policy_is_held_against_its_own_control():
    """Plain random labels, beaten here, say nothing about random labels under other settings."""
    told = between("human", "human+sft", ("human+sft", "random+sft"), ("random+sft", "base"), ("random", "base"))
    for duel in told["duels"]:
        if (duel["policy"], duel["against"]) == ("human+sft", "base"):
            duel |= row("human+sft", "base", 0.6, 0.8)
    (sentence,) = [text for text in headline.sentences(told) if "+sft: better than the base" in text]
    assert "not told apart from random labels" in sentence
