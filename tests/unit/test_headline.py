"""The report's sentences claim no more than the intervals, the control and the training seeds allow."""

import pytest

from aifeedback_dpo import config
from aifeedback_dpo.compare import cautions, headline


def sides(low, high):
    value = (low + high) / 2
    return {
        "win_rate": {"value": value, "low": low, "high": high, "prompts": 100},
        "difference": {"value": value - 0.5, "low": low - 0.5, "high": high - 0.5, "prompts": 100},
    }


def row(policy, against, low, high, seeds=1, metric="utility"):
    """Of several training seeds the interval over seeds counts; that over prompts alone would say `better` everywhere."""
    return {
        "policy": policy,
        "against": against,
        "metric": metric,
        "category": None,
        "seeds": list(range(seeds)),
        "in_loop": False,
        **(sides(low, high) if seeds == 1 else sides(0.9, 0.95)),
        "over_seeds": None if seeds == 1 else sides(low, high),
    }


def result(*rows, compared=("human", "pickscore"), accuracy=0.7, **more):
    """A result of one prompt set; policies are those of the rows, of the judge that their name begins with."""
    names = dict.fromkeys(["base", *compared, *(name for duel in rows for name in (duel["policy"], duel["against"]))])
    recipe = config.load("shapes")
    seeds = {duel["policy"]: duel["seeds"] for duel in rows}
    told = [
        {
            "policy": name,
            "judge": None if name == "base" or name.startswith("hub/") else name.rpartition("/")[2].partition("+")[0],
            "labellers": None if name.startswith("hub/") else [],
            "seeds": seeds.get(name, [0]),
        }
        for name in names
    ]
    share = {"value": accuracy, "low": accuracy, "high": accuracy}
    found = {
        "set": "held-out",
        "prompts": 100,
        "primary": "utility",
        "metrics": [
            {"metric": name, "about": "what they want", "kind": kind}
            for name, kind in (("utility", "truth"), ("pickscore", "scorer"))
        ],
        "duels": list(rows),
        "factors": None,
        "scorers_alone": None,
        "guards": [],
        "trained_on": {},
        "outside_the_grammar": 0,
        "left_out": {},
    }
    made = {
        "compared": list(compared),
        "policies": told,
        "titles": {name: "base model" if name == "base" else recipe.title(name) for name in names},
        "sets": [found],
        "differ_in": [],
        "confidence": 0.95,
        "simulated": ["human"],
        "judges": {"matrix": [{"first": "human", "second": "pickscore", "decided": 9, "rules": {"decided": share}}]},
    }
    made["sets"][0] |= {key: more.pop(key) for key in list(more) if key in found}
    return made | more


def against_base(low, high, seeds=1, *more):
    rows = [
        row("pickscore", "human", 0.4, 0.6, seeds),
        row("human", "base", 0.4, 0.6, seeds),
        row("pickscore", "base", low, high, seeds),
        *more,
    ]
    made = result(*rows)
    said = headline.sentences(made)
    return next(text for text in said if "rained on pickscore" in text and "base model" in text), said, made


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.51, 0.7, "better than"), (0.3, 0.49, "worse than"), (0.5, 0.7, "no difference seen from")],
)
def test_the_verdict_is_what_the_interval_allows(low, high, words, seeds):
    assert words in against_base(low, high, seeds)[0]


def test_a_win_over_base_that_is_none_over_random_labels_says_so():
    control = [row("random", "base", 0.52, 0.7), row("pickscore", "random", 0.45, 0.55)]
    assert "not told apart from random labels" in against_base(0.55, 0.7, 1, *control)[0]
    control = [row("random", "base", 0.45, 0.55), row("pickscore", "random", 0.55, 0.65)]
    assert "not told apart" not in against_base(0.55, 0.7, 1, *control)[0]


def test_a_missing_control_is_told():
    assert any("No policy was trained on random labels" in text for text in against_base(0.55, 0.7)[1])


def test_judges_that_decided_no_pair_together_agree_on_an_undefined_share():
    rows = [row("pickscore", "human", 0.4, 0.6), row("human", "base", 0.4, 0.6), row("pickscore", "base", 0.4, 0.6)]
    assert "an undefined share" in headline.sentences(result(*rows, accuracy=None))[-1]


def test_one_training_seed_is_no_claim_about_labels():
    sentence, _, made = against_base(0.55, 0.7)
    assert sentence.startswith("The one policy trained on pickscore labels")
    assert any("raise train.seeds before claiming" in text for text in cautions.told(made))
    sentence, _, made = against_base(0.55, 0.7, 3)
    assert sentence.startswith("Trained on pickscore labels: better than the base")
    assert not any("training seed" in text for text in cautions.told(made))
    assert any("Two training seeds say little" in text for text in cautions.told(against_base(0.55, 0.7, 2)[2]))


def test_a_share_and_a_mean_that_disagree_are_both_said():
    mixed = row("pickscore", "base", 0.6, 0.8)
    mixed["difference"] = {"value": -0.04, "low": -0.19, "high": 0.1}
    told = result(row("pickscore", "human", 0.4, 0.6), row("human", "base", 0.4, 0.6), mixed)
    (sentence,) = [text for text in headline.sentences(told) if "base model" in text and "pickscore" in text]
    assert "more often preferred to, but lower on average than, the base model" in sentence


def test_few_prompts_are_said_to_be_few():
    _, _, told = against_base(0.4, 0.6)
    assert not any("rough" in text for text in cautions.told(told))
    told["sets"][0]["prompts"] = 12
    assert any("rough" in text for text in cautions.told(told))


def test_where_every_scorer_judges_its_own_work_another_is_asked_for():
    _, _, told = against_base(0.4, 0.6)
    assert not any("--scorer" in text for text in cautions.told(told))
    told["sets"][0]["primary"] = "pickscore"
    told["policies"][2]["labellers"] = ["pickscore"]
    assert any("Add one that did not: `ddpo compare --scorer NAME`" in text for text in cautions.told(told))


def test_what_nobody_here_knows_of_a_policy_from_elsewhere_is_a_caution():
    told = result(row("hub/model", "base", 0.6, 0.8), compared=("hub/model",))
    assert headline.sentences(told)[0].startswith("hub/model: better than the base model by utility")
    assert any("Whose labels hub/model learned from" in text for text in cautions.told(told))


def test_prompts_that_a_policy_was_trained_on_are_a_caution():
    told = result(row("human", "base", 0.6, 0.8), compared=("human",), trained_on={"human": 7})
    assert "human (simulated) was trained on 7 of the 100 prompts of held-out." in cautions.told(told)


def between(first, second, *more, settings=None):
    """Two policies that nothing tells apart, from one judge where both names begin with it."""
    duels = ((second, first), (first, "base"), (second, "base"), *more)
    same = first.partition("+")[0] == second.partition("+")[0]
    differ = {"policy": second, "against": first, "same_judge": same, "settings": settings or {}}
    differ["other_pictures"] = False
    return result(*(row(*side, 0.4, 0.6) for side in duels), compared=(first, second), differ_in=[differ])


def test_one_judge_is_no_agreement_and_the_settings_that_differ_are_told():
    settings = {"train.objective": ["dpo", "sft"], "train.ema": [None, 0.99]}
    said = headline.sentences(between("human", "human+sft", settings=settings))
    assert said[0].startswith(
        "The one policy trained as human (simulated)+sft: no difference seen from the policy human (simulated) by utility"
    )
    assert said[1] == (
        "human (simulated) and human (simulated)+sft differ in train.objective (dpo, sft), train.ema (none, 0.99)."
    )
    assert said[-1].startswith("All were trained on human (simulated) labels")
    assert not any("agree on" in text for text in said)
    assert "differ in no setting" in headline.sentences(between("human", "human+sft"))[1]


def test_settings_that_differ_beside_the_labels_are_a_caveat():
    told = between("human", "pickscore+beta500", settings={"train.beta": [2000.0, 500.0]})
    (caveat,) = [text for text in cautions.told(told) if "differ in more than their labels" in text]
    assert "in train.beta (2000, 500). Nothing here tells what the labels did." in caveat
    assert any("agree on 70 %" in text for text in headline.sentences(told))
    assert not any("differ" in text for text in cautions.told(between("human", "pickscore+beta500")))


def test_the_control_of_a_named_policy_is_random_labels_under_the_same_name():
    plain = [("random", "base"), ("human", "random")]
    said = headline.sentences(between("human", "human+sft", *plain))
    assert any("with the settings of human (simulated)+sft, so nothing tells" in text for text in said)
    more = [*plain, ("random+sft", "base"), ("human+sft", "random+sft")]
    said = headline.sentences(between("human", "human+sft", *more))
    assert not any("so nothing tells" in text for text in said)
    assert any(
        text.startswith("The one policy trained as random+sft: no difference seen from the base") for text in said
    )
    assert any("+sft: no difference seen from the policy random+sft" in text for text in said)


def test_a_win_of_a_named_policy_is_held_against_its_own_control():
    """Plain random labels, beaten here, say nothing about random labels under other settings."""
    told = between("human", "human+sft", ("human+sft", "random+sft"), ("random+sft", "base"), ("random", "base"))
    for duel in told["sets"][0]["duels"]:
        if (duel["policy"], duel["against"]) == ("human+sft", "base"):
            duel |= row("human+sft", "base", 0.6, 0.8)
    (sentence,) = [text for text in headline.sentences(told) if "+sft: better than the base" in text]
    assert "not told apart from random labels" in sentence


def test_of_many_policies_the_first_two_are_told_against_each_other():
    names = ("human", "clip", "pickscore", "random")
    pairs = [(later, earlier) for at, earlier in enumerate(names) for later in names[at + 1 :]]
    told = result(*(row(*side, 0.4, 0.6) for side in [*pairs, *((name, "base") for name in names)]), compared=names)
    said = [text for text in headline.sentences(told) if "difference seen from" in text and "base model" not in text]
    (sentence,) = said
    assert sentence.startswith(
        "The one policy trained on clip labels: no difference seen from human (simulated) labels"
    )


def test_labels_or_pictures_is_told_from_the_effects():
    def effect(name, of, low, high):
        return {"effect": name, "of": of, "difference": None, "over_seeds": {"value": 1.0, "low": low, "high": high}}

    effects = [effect("labels", "pickscore - human", -1, 3), effect("images", "other - own", 0.5, 1.5)]
    grid = {"metric": "utility", "differs": [], "effects": [*effects, effect("interaction", "x", 1, 2)]}
    said = headline.sentences(result(row("human", "base", 0.6, 0.8), compared=("human",), factors=grid))
    (sentence,) = [text for text in said if text.startswith("Labels or pictures")]
    assert "pickscore labels in place of human (simulated)'s are not seen to change utility" in sentence
    assert "other pictures in place of own's raise utility (+1 (+0.5 to +1.5))" in sentence
