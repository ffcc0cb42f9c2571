"""Committed pairs in, committed answers of a pairwise judge out. A pair is asked once, ever."""

from collections.abc import Mapping, Sequence

from PIL import Image

from aifeedback_dpo import engine
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.scorers import Answer, PairJudge, scoring
from aifeedback_dpo.scorers.scoring import Spent, Unreadable, reason
from aifeedback_dpo.store import Run, decode_image

Pair = Mapping[str, str]  # a row of the table `pairs`


def ask(
    run: Run,
    name: str,
    judge: PairJudge,
    pairs: Sequence[Pair],
    prompts: Mapping[str, str],
    progress: engine.Progress,
    spent: Spent = scoring.nobody,
) -> list[Unreadable]:
    """Asks about the pairs that this judge, with this very recipe, has not been asked about; `prompts` are by image id.

    A pair of which a picture cannot be read is not asked about; the picture is given back. Its time is told as that of
    scorers is, each pair as two pictures.
    """
    unreadable: dict[str, Unreadable] = {}
    album = run.album()

    def work(part: engine.Slice[Pair]) -> None:
        encoded = dict(album.images({image_id for pair in part.units for image_id in _sides(pair)}))
        rows, began = [], scoring.clock()
        size = run.recipe.label.batch_size
        for start in range(0, len(part.units), size):
            shown = _readable(part.units[start : start + size], encoded, unreadable)
            if not shown:
                continue
            texts = [prompts[pair["image_a"]] for pair, _, _ in shown]
            told = judge.ask([a for _, a, _ in shown], [b for _, _, b in shown], texts)
            if len(told) != len(shown):
                raise UserError(
                    f"judge {name} gave {len(told)} answers about {len(shown)} pairs; it must give one a pair"
                )
            rows += [_row(name, judge, pair["pair_id"], said) for (pair, _, _), said in zip(shown, told, strict=True)]
        if rows:
            seconds = scoring.clock() - began
            run.commit("answers", rows, f"{judge.recipe[:8]}-{part.name}", name)
            spent(name, seconds, 2 * len(rows))

    engine.run(
        pairs,
        key=lambda pair: pair["pair_id"],
        done=set(answers(run, name, judge.recipe)),
        size=run.recipe.label.images_per_part,
        work=work,
        progress=progress,
        name=f"Asking {name}",
    )
    return list(unreadable.values())


def answers(run: Run, name: str, recipe: str) -> dict[str, Answer]:
    """Pair id -> what this judge, with this recipe, has answered."""
    return {
        row["pair_id"]: Answer(row["a_first"], row["b_first"], row["choice_a_first"], row["choice_b_first"])
        for row in run.rows("answers", name=name)
        if row["recipe"] == recipe
    }


def _sides(pair: Pair) -> tuple[str, str]:
    return pair["image_a"], pair["image_b"]


def _readable(
    pairs: Sequence[Pair], encoded: Mapping[str, bytes], unreadable: dict[str, Unreadable]
) -> list[tuple[Pair, Image.Image, Image.Image]]:
    pictures: dict[str, Image.Image] = {}
    for image_id in dict.fromkeys(image_id for pair in pairs for image_id in _sides(pair)):
        try:
            pictures[image_id] = decode_image(encoded[image_id])
        except OSError as error:
            unreadable[image_id] = Unreadable(image_id, reason(error))
    return [
        (pair, pictures[pair["image_a"]], pictures[pair["image_b"]])
        for pair in pairs
        if pair["image_a"] in pictures and pair["image_b"] in pictures
    ]


def _row(name: str, judge: PairJudge, pair_id: str, answer: Answer) -> dict[str, object]:
    return {
        "pair_id": pair_id,
        "judge": name,
        "recipe": judge.recipe,
        "a_first": answer.a_first,
        "b_first": answer.b_first,
        "choice_a_first": answer.choice_a_first,
        "choice_b_first": answer.choice_b_first,
    }
