"""`ddpo label` with judges of every kind, on a run written by hand: no model, so that it is fast."""

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aifeedback_dpo import config, judges, label, scorers
from aifeedback_dpo.compare import metrics
from aifeedback_dpo.engine import Silent
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.opening import open_run
from aifeedback_dpo.records import pair_id, prompt_id
from aifeedback_dpo.scorers import Answer, presence, scoring
from aifeedback_dpo.store import Run, encode_image
from tests.conftest import ddpo

PROMPTS = ["a warm picture", "another warm picture", "a third"]
REDS = (10, 60, 60, 200)  # of the four pictures of a prompt; the second and third have the same pixels

MODULE = '''
import numpy as np

CALLS = []

class Warmth:
    name = "warmth"
    slope = 0.1

    def score(self, images, prompts):
        CALLS.append((type(self).__name__, len(images), id(images[0])))
        return [float(np.asarray(image)[..., 0].mean()) for image in images]

class Coolness(Warmth):
    name = "coolness"
    slope = None

    def score(self, images, prompts):
        return [-number for number in super().score(images, prompts)]

class Picky(Warmth):
    """Has no opinion on the reddest."""
    name = "picky"

    def score(self, images, prompts):
        return [float("nan") if number == 200 else number for number in super().score(images, prompts)]

class Curt(Warmth):
    """Reads no more than two words."""
    name = "curt"

    def __init__(self):
        self.truncated = set()

    def score(self, images, prompts):
        self.truncated |= {prompt for prompt in prompts if len(prompt.split()) > 2}
        return super().score(images, prompts)

class Endless(Warmth):
    name = "endless"

    def score(self, images, prompts):
        return [float("inf")] * len(images)

class Short(Warmth):
    name = "short"

    def score(self, images, prompts):
        return [0.0]
'''


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    """Three prompts with four flat pictures each, all pairs, nobody's view yet; and a module of one's own beside it."""
    (tmp_path / "own_scorers.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("own_scorers", None)
    made = Run(
        tmp_path / "run", config.load("shapes", ["label.raters=null", "label.images_per_part=5", "label.batch_size=2"])
    )
    prompts, images, pairs = [], [], []
    for at, prompt in enumerate(PROMPTS):
        prompts.append({"prompt_id": prompt_id(prompt), "prompt": prompt, "split": "train", "source": "here"})
        ids = [f"image-{at}-{k}" for k in range(len(REDS))]
        for image_id, red in zip(ids, REDS, strict=True):
            data = encode_image(Image.new("RGB", (8, 8), (red, at, 0)))
            known = {"image_id": image_id, "prompt_id": prompt_id(prompt), "pixel_sha256": f"{at}-{red}"}
            images.append(known | {"image": {"bytes": data, "path": image_id}})
        for a, b in ((0, 1), (1, 2), (3, 2), (0, 3)):
            pairs.append({"pair_id": pair_id(ids[a], ids[b]), "prompt_id": prompt_id(prompt), "image_a": ids[a]})
            pairs[-1] |= {"image_b": ids[b], "chosen_by": "hand"}
    made.commit("prompts", prompts, "x")
    made.commit("images", images, "x", "base")
    made.commit("pairs", pairs, "x")
    made.record("generate", "done")
    return made


FITTED = tuple(f"label.scorers.warmth.{key}" for key in ("id=none", "uses=own_scorers:Warmth", "slope=human"))


def own(name: str) -> str:
    return f"own_scorers:{name}"


def calls() -> list:
    import own_scorers

    return own_scorers.CALLS


def said(*arguments: str, run: Run) -> str:
    result = ddpo("label", *arguments, run=run.root)
    assert result.exit_code == 0, result.output
    return result.stdout + result.stderr


def refused(*arguments: str, run: Run, code: int = 2) -> str:
    """The one line, and nothing else changed."""
    before = files(run.root)
    result = ddpo("label", *arguments, run=run.root)
    lines = [line for line in result.stderr.splitlines() if line.startswith("ddpo: ")]
    assert result.exit_code == code, result.output
    assert len(lines) == 1
    assert files(run.root) == before
    return lines[0]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def views(run: Run, judge: str) -> list[float]:
    known = {row["pair_id"]: row["p_a"] for row in run.rows("preferences", name=judge)}
    return [known.get(pair["pair_id"], math.nan) for pair in run.rows("pairs")]


def rules(run: Run, judge: str) -> set[str]:
    return {row["rule"] for row in run.rows("preferences", name=judge)}


def people(run: Run, p_a: list[float]) -> None:
    rows = [
        {"pair_id": pair["pair_id"], "judge": "human", "p_a": choice, "rule": "a vote"}
        for pair, choice in zip(run.rows("pairs"), p_a, strict=True)
    ]
    run.commit("preferences", rows, "current", "human")


def test_a_scorer_of_ones_own_joins_the_recipe_and_scores_once(run):
    assert "warmth: 3 prefer a, 6 prefer b, 3 ties" in said("--scorer", own("Warmth"), run=run)
    joined = run.saved().label.scorers["warmth"]
    assert joined.uses == own("Warmth")
    assert len(run.done("scores", "warmth")) == 12
    asked = len(calls())
    said("--scorer", "warmth", run=run)
    assert len(calls()) == asked > 0
    # sigmoid(0.1 * (10 - 60)) = 0.0067
    assert views(run, "warmth")[:4] == pytest.approx([1 / (1 + math.exp(5)), 0.5, 1, 0], abs=1e-5)
    assert rules(run, "warmth") == {
        "sigmoid(0.1 * (score_a - score_b)), the scorer's own slope; a tie if |p_a - 1/2| <= 0"
    }


def test_what_joined_stays_when_the_recipe_is_given_again_without_it(run):
    said("--scorer", own("Warmth"), "--scorer", own("Coolness"), "--judge", "consensus", run=run)
    again = open_run(run.root, "shapes", ["label.raters=null", "label.images_per_part=5"])
    assert set(again.recipe.label.scorers) >= {"warmth", "coolness"}
    assert again.recipe.label.consensus.of == ("warmth", "coolness")


def test_a_dry_run_counts_a_scorer_that_would_join_and_writes_nothing(run):
    before = files(run.root)
    plan = json.loads(
        ddpo("label", "-s", own("Warmth"), "-s", "hpsv2", "-s", "vlm", "--dry-run", "--json", run=run.root).stdout
    )
    assert plan["scored"] == {"warmth": 0, "hpsv2": 0, "random": 0}
    assert plan["answered"] == {"vlm": 0}
    assert files(run.root) == before


def test_published_weights_join_and_are_told_missing_before_anything_is_scored(run):
    recipe = label.joined(run, ["hpsv2.1"])[0].recipe
    assert recipe.label.scorers["hpsv2.1"].file == "HPS_v2.1_compressed.pt"
    assert "xswu/HPSv2" in refused("-s", own("Warmth"), "-s", "hpsv2.1", run=run, code=4)
    moved = label.joined(open_run(run.root, None, ["label.scorers[hpsv2.1].id=/models/hps"]), ["hpsv2.1"])[0]
    assert moved.recipe.label.scorers["hpsv2.1"].id == "/models/hps"


def test_settings_of_a_scorer_that_has_scored_nothing_may_still_change(run):
    said("--scorer", own("Warmth"), "label.scorers.hpsv2.id=/somewhere", run=run)
    moved = open_run(run.root, None, ["label.scorers.hpsv2.id=/elsewhere"])
    assert moved.recipe.label.scorers["hpsv2"].id == "/elsewhere"
    with pytest.raises(UserError, match=r"label\.scorers\.warmth\.dtype"):
        open_run(run.root, None, ["label.scorers.warmth.dtype=bfloat16"])


def test_a_rule_may_change_and_costs_no_scorer_call(run):
    """Reds of 10, 60, 60 and 200: with a margin of 100 only 200 against 60, and against 10, are decided."""
    said("--scorer", own("Coolness"), run=run)
    asked = len(calls())
    told = said("-s", "coolness", "label.scorers.coolness.margin=100", run=run)
    assert "coolness: 3 prefer a, 3 prefer b, 6 ties" in told
    assert len(calls()) == asked
    assert all("100" in rule for rule in rules(run, "coolness"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("label.scorers.human.id=none", "label.scorers.human.uses=jpeg"), "no scorer's"),
        (("label.scorers.random.uses=jpeg",), "is the control"),
    ],
)
def test_no_scorer_poses_as_people_or_as_the_control(run, settings, words):
    assert words in refused("-s", "jpeg", *settings, run=run)


def test_how_many_prompts_were_cut_is_told_after_a_stop_as_well(run):
    cut = "curt: 2 of 3 prompts are longer than it reads and were cut"
    assert cut in said("-s", own("Curt"), run=run)
    assert cut in said("-s", "curt", run=run)  # nothing is scored, and so nothing read, this time


def test_a_score_that_is_missing_is_stored_as_missing_and_not_asked_again(run):
    assert "picky: 0 prefer a, 3 prefer b, 3 ties, 6 missing" in said("--scorer", own("Picky"), run=run)
    stored = {row["image_id"]: row["score"] for row in run.rows("scores", name="picky")}
    assert [stored[f"image-0-{k}"] for k in range(4)] == [10, 60, 60, None]
    asked = len(calls())
    said("--scorer", "picky", run=run)
    assert len(calls()) == asked


@pytest.mark.parametrize(
    ("name", "words"),
    [("Endless", "gave an infinite score"), ("Short", "gave an array of shape (1,) for 2 pictures")],
)
def test_a_scorer_that_gives_something_else_is_named(run, name, words):
    result = ddpo("label", "--scorer", own(name), run=run.root)
    assert result.exit_code == 2
    assert f"scorer {own(name)} {words}" in result.stderr
    assert not run.parts("scores", name.lower())


def test_scores_are_float32_and_nothing_else():
    with pytest.raises(UserError, match="scorer clip gave an array of float64 for 1 pictures; it must give 1 float32"):
        scoring.checked("clip", np.zeros(1), 1)
    with pytest.raises(UserError, match="scorer clip gave list"):
        scoring.checked("clip", [1.0], 1)


def test_a_picture_is_decoded_once_for_all_scorers(run, monkeypatch):
    decoded = []
    real = scoring.decode_image
    monkeypatch.setattr(scoring, "decode_image", lambda data: decoded.append(data) or real(data))
    said("-s", own("Warmth"), "-s", own("Coolness"), run=run)
    assert len(decoded) == 12
    warm, cool = ([call[1:] for call in calls() if call[0] == name] for name in ("Warmth", "Coolness"))
    assert warm == cool  # the very same batches, so that what one memoises the other finds


@pytest.mark.slow
def test_stopped_at_any_commit_and_run_again_equals_straight(run, monkeypatch):
    """Parts of several scorers come in turn; whichever is the last one written, the rest is the same."""
    from shutil import copytree

    ask = ("-s", own("Warmth"), "-s", own("Coolness"), "--judge", "consensus")
    straight = Run(Path(copytree(run.root, run.root.parent / "straight")), run.recipe)
    said(*ask, run=straight)
    tables = ("scores", "preferences")
    wanted = {name: data for name, data in files(straight.root).items() if name.startswith(tables)}
    assert len(wanted) == 3 * 3 + 4
    real = Run.commit
    for commits in range(len(wanted)):
        stopped = Run(Path(copytree(run.root, run.root.parent / f"stopped-{commits}")), run.recipe)
        left = [None] * commits

        def commit(self, *arguments, left=left):
            if not left:
                raise KeyboardInterrupt
            left.pop()
            real(self, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(Run, "commit", commit)
            assert ddpo("label", *ask, run=stopped.root).exit_code == 130
        said(*ask, run=stopped)
        assert {name: data for name, data in files(stopped.root).items() if name.startswith(tables)} == wanted


def taken(run: Run, name: str) -> tuple[float, int]:
    entry = run.manifest()["made_by"][f"label/{name}"]
    return entry["seconds"], entry["pictures"]


def test_what_each_scorer_takes_adds_up_over_a_stop(run, monkeypatch):
    ask = ("-s", own("Warmth"), "-s", own("Coolness"))
    monkeypatch.setattr(scoring, "clock", itertools.count().__next__)  # a second from each look at it to the next
    real, left = Run.commit, [None] * 4

    def commit(self, *arguments):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "commit", commit)
        assert ddpo("label", *ask, run=run.root).exit_code == 130
    said(*ask, run=run)
    # Parts of 5, 5 and 2 pictures in batches of 2: three, three and one. A batch is opened in a second and each of three
    # scorers takes one: 4/3 s each. The stop came when warmth had committed the second part, so the other two looked at it
    # alone: 3/2 s a batch.
    assert taken(run, "warmth") == (pytest.approx(7 * 4 / 3), 12)
    assert taken(run, "coolness") == (pytest.approx(4 * 4 / 3 + 3 * 3 / 2), 12)
    said(*ask, run=run)
    assert taken(run, "warmth") == (pytest.approx(7 * 4 / 3), 12)


def test_the_time_of_other_weights_is_not_a_scorers_own(run):
    run.record("label/warmth", "done", scorer="of other weights", seconds=1e6, pictures=1000)
    said("-s", own("Warmth"), run=run)
    seconds, pictures = taken(run, "warmth")
    assert seconds < 1e6
    assert pictures == 12


def test_prompts_that_were_cut_are_counted_once_a_scorer(run, monkeypatch):
    class Short:
        preference, recipe = scorers.Preference(None, "a test"), "r"

        def __init__(self, weights):
            self.truncated = set()

        def score(self, images, prompts):
            self.truncated |= {prompt for prompt in prompts if "warm" in prompt} | {"of another scorer on this tower"}
            return np.zeros(len(images), dtype=np.float32)

    real = scorers.load
    monkeypatch.setattr(
        scorers, "load", lambda name, weights: Short(weights) if name == "clip" else real(name, weights)
    )
    assert said("-s", "clip", run=run).count("clip: 2 of 3 prompts are longer than it reads and were cut") == 1


@pytest.mark.slow
def test_a_consensus_is_of_the_scorers_of_the_command_and_keeps_its_meaning(run):
    ask = ("-s", own("Warmth"), "-s", own("Coolness"), "-s", own("Picky"), "--judge", "consensus")
    assert "consensus: 0 prefer a, 3 prefer b, 3 ties, 6 missing" in said(*ask, run=run)
    assert run.saved().label.consensus.of == ("warmth", "coolness", "picky")
    assert rules(run, "consensus") == {
        "majority of warmth, coolness, picky: more on one side than on the other, else a tie"
    }
    assert {row["votes"] for row in run.rows("preferences", name="consensus")} == {3}
    assert json.loads((run.root / "manifest.json").read_text())["made_by"]["label/consensus"]["members"]
    (run.root.parent / "other.py").write_text(
        "from own_scorers import Warmth\nclass Other(Warmth):\n    name = 'other'\n"
    )
    assert "consensus of this run is of warmth" in refused("-s", "other:Other", "-j", "consensus", run=run)
    fewer = refused("-s", "warmth", "-s", "coolness", "-j", "consensus", run=run)
    assert "name the same ones, or set label.consensus.of" in fewer
    said("--judge", "consensus", run=run)  # the same as before needs no names
    told = said("-j", "consensus", "label.consensus.rule=mean", "label.consensus.of=[warmth,coolness]", run=run)
    assert "mean of warmth, coolness" in told
    assert "missing" not in told.split("consensus: ")[1]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (("-s", "own_scorers:Warmth", "-j", "consensus"), "at least two judges"),
        (("-j", "consensus"), "at least two judges"),
        (("-j", "human"), "takes only --judge consensus"),
        (("-j", "consensus", "label.consensus.of=[random,warmth]"), "names random"),
        (("-j", "consensus", "label.consensus.of=[own,warmth]"), "no scorer 'own'"),
        (("-s", "consensus"), "no scorer 'consensus'"),
        (("-j", "consensus", "-s", "own_scorers:Warmth", "label.consensus.of=[human,warmth]"), "needs preferences of"),
    ],
)
def test_a_consensus_that_cannot_be_is_refused(run, ask, words):
    assert words in refused(*ask, run=run)


@pytest.mark.slow
def test_a_recipe_whose_ai_is_the_consensus_makes_it_without_being_asked(run):
    settings = ("label.ai=consensus", "label.consensus.rule=unanimous")
    said("-s", own("Warmth"), "-s", own("Picky"), *settings, run=run)
    assert views(run, "consensus")[:3] == pytest.approx([0, 0.5, math.nan], nan_ok=True)
    said(*settings, run=run)  # its members need no names
    assert "consensus:" not in said("-s", own("Coolness"), *settings, run=run)  # it is not one of the members
    assert run.saved().label.consensus.of == ("warmth", "picky")
    assert run.recipe.model_copy(update={"label": run.saved().label}).judge("ai") == "consensus"


def test_people_can_be_of_the_consensus(run):
    people(run, [1.0] * 12)
    said("-s", own("Warmth"), "-j", "consensus", "label.consensus.of=[human,warmth]", run=run)
    assert views(run, "consensus")[:4] == [0.5, 1.0, 1.0, 0.5]


@pytest.mark.slow
def test_a_policy_of_the_consensus_is_compared_with_its_members_marked(copied):
    for command in (("label", "-s", "pickscore", "-s", "clip", "-j", "consensus"), ("train", "-j", "consensus")):
        result = ddpo(*command, run=copied)
        assert result.exit_code == 0, result.output
    report = json.loads(ddpo("compare", "human", "vs", "consensus", "--json", run=copied).stdout)
    duels = report["sets"][0]["duels"]
    marked = {row["metric"] for row in duels if row["policy"] == "consensus" and row["in_loop"]}
    assert marked == {"pickscore", "clip"}
    assert not any(row["in_loop"] for row in duels if row["policy"] == "human" and row["against"] == "base")


def test_metrics_are_the_scorers_that_have_a_number_for_every_picture(run, monkeypatch):
    recipe, _ = judges.asked(run.recipe, [own("Warmth"), own("Picky"), "vlm"], [])
    names = ("warmth", "picky", "vlm", "random")
    label_settings = recipe.label.model_copy(update={"scorers": {name: recipe.label.scorers[name] for name in names}})
    measured = Run(run.root, recipe.model_copy(update={"label": label_settings}))
    notes: list[str] = []
    monkeypatch.setattr(Silent, "note", lambda self, text: notes.append(text))
    prompts = {f"image-0-{k}": PROMPTS[0] for k in range(4)}
    found = metrics.measure(measured, prompts, Silent())
    assert [(metric.name, metric.values["image-0-3"]) for metric in found] == [("warmth", 200.0)]
    assert notes[-1] == "picky is left out: it has no score for 1 of 4 pictures"


def test_a_slope_fitted_on_people_says_so(run):
    def vote(*of_fifty: float) -> None:
        """At a difference of 50, in each prompt; elsewhere the warmer is chosen."""
        choices = {-50: of_fifty, 0: (0.5,) * 3, 140: (1,) * 3, -190: (0,) * 3}
        people(run, [choices[difference][at] for at in range(3) for difference in (-50, 0, 140, -190)])

    vote(0, 0, 0)
    assert "label.scorers.warmth.slope=human: people never disagree with it" in refused_after_scoring(*FITTED, run=run)
    vote(0, 0, 1)
    said("-s", "warmth", *FITTED, run=run)
    (told,) = rules(run, "warmth")
    assert "fitted on 12 human votes" in told
    slope = float(told.split("(")[1].split(" ")[0])
    # there the likelihood is flat: the differences, times sigmoid(slope * difference) less the share that chose it, cancel
    shares = {50: 2 / 3, 140: 1, 190: 1}
    assert sum(d * (1 / (1 + math.exp(-slope * d)) - share) for d, share in shares.items()) == pytest.approx(
        0, abs=1e-3
    )


def refused_after_scoring(*arguments: str, run: Run) -> str:
    result = ddpo("label", "-s", "warmth", *arguments, run=run.root)
    assert result.exit_code == 2, result.output
    return next(line for line in result.stderr.splitlines() if line.startswith("ddpo: "))


def test_a_slope_of_people_without_people_is_refused_before_anything_is_scored(run):
    line = refused("-s", "warmth", *FITTED, run=run)
    assert "label.scorers.warmth.slope=human needs preferences of judge 'human'" in line


class Opinionated:
    """Takes the redder, says nothing sensible of the third prompt, and always likes the first shown in the second."""

    recipe = "judge-recipe"
    asked: list[str]

    def __init__(self):
        self.asked = []

    def ask(self, images_a, images_b, prompts):
        self.asked += prompts
        return [
            self.answer(a.getpixel((0, 0))[0], b.getpixel((0, 0))[0], prompt)
            for a, b, prompt in zip(images_a, images_b, prompts, strict=True)
        ]

    def answer(self, a, b, prompt):
        if prompt == PROMPTS[2]:
            return Answer("1 and 2", "hm", None, None)
        if prompt == PROMPTS[1]:
            return Answer("1", "1", 1.0, 0.0)
        return Answer("x", "x", *([0.5 if a == b else float(a > b)] * 2))


@pytest.mark.slow
def test_a_judge_of_pairs_is_asked_once_and_its_answers_are_kept(run, monkeypatch):
    judge = Opinionated()
    monkeypatch.setattr(presence, "demand", lambda asked: None)
    monkeypatch.setattr(scorers, "load_judge", lambda name, weights: judge)
    assert "vlm: 1 prefer a, 2 prefer b, 5 ties, 4 missing" in said("-s", "vlm", run=run)
    assert views(run, "vlm")[:8] == [0, 0.5, 1, 0, 0.5, 0.5, 0.5, 0.5]
    assert len(judge.asked) == 12
    said("-s", "vlm", run=run)
    assert len(judge.asked) == 12
    kept = {row["pair_id"]: row for row in run.rows("answers", name="vlm")}
    last = kept[run.rows("pairs")[-1]["pair_id"]]
    assert (last["a_first"], last["choice_a_first"], last["recipe"]) == ("1 and 2", None, "judge-recipe")
    assert not run.parts("scores", "vlm")
    said("-s", "vlm", "-s", own("Warmth"), "-j", "consensus", run=run)
    assert views(run, "consensus")[:4] == [0, 0.5, 1, 0]
    assert math.isnan(views(run, "consensus")[-1])


def test_a_judge_of_pairs_that_was_stopped_goes_on_where_it_was(run, monkeypatch):
    class Tired(Opinionated):
        def ask(self, images_a, images_b, prompts):
            if len(self.asked) >= 6:
                raise KeyboardInterrupt
            return super().ask(images_a, images_b, prompts)

    tired, judge = Tired(), Opinionated()
    monkeypatch.setattr(presence, "demand", lambda asked: None)
    monkeypatch.setattr(scorers, "load_judge", lambda name, weights: tired)
    assert ddpo("label", "-s", "vlm", run=run.root).exit_code == 130
    monkeypatch.setattr(presence, "demand", lambda asked: None)
    monkeypatch.setattr(scorers, "load_judge", lambda name, weights: judge)
    said("-s", "vlm", run=run)
    assert len(judge.asked) == 12 - 5  # the first part of five pairs was committed
    assert taken(run, "vlm")[1] == 2 * 12  # two pictures a pair, those asked before the stop included
    assert len(run.rows("answers", name="vlm")) == 12


def test_a_judge_of_pairs_answers_every_pair_or_is_refused(run, monkeypatch):
    class Lazy(Opinionated):
        def ask(self, images_a, images_b, prompts):
            return super().ask(images_a, images_b, prompts)[:1]

    monkeypatch.setattr(presence, "demand", lambda asked: None)
    monkeypatch.setattr(scorers, "load_judge", lambda name, weights: Lazy())
    with pytest.raises(UserError, match="judge vlm gave 1 answers about 2 pairs"):
        label.label(run, ["vlm"], Silent())


def test_a_scorer_that_failed_does_not_join_the_recipe(run):
    before = run.saved().label
    result = ddpo("label", "-s", own("Endless"), "-s", own("Warmth"), "--judge", "consensus", run=run.root)
    assert result.exit_code == 2
    assert run.saved().label == before
    made_by = json.loads((run.root / "manifest.json").read_text())["made_by"]
    assert {made_by[f"label/{name}"]["status"] for name in ("endless", "warmth")} == {"failed"}
    said("-s", own("Coolness"), "-s", own("Warmth"), "--judge", "consensus", run=run)
    assert run.saved().label.consensus.of == ("coolness", "warmth")


def test_without_a_scorer_those_that_will_be_trained_on_are_asked(run):
    settings = ("label.scorers.warmth.id=none", "label.scorers.warmth.uses=own_scorers:Warmth", "label.ai=warmth")
    told = said(*settings, "label.scorers.jpeg.id=none", "train.judges=[ai,jpeg,random]", run=run)
    assert [line.split(":")[0] for line in told.splitlines() if " prefer a" in line] == ["warmth", "jpeg", "random"]
