"""Image ids made without the shots are those of the shots, whatever is in a prompt or beside it."""

from hypothesis import example, given
from hypothesis import strategies as st

from aifeedback_dpo.models.shots import Shots, Source, plan
from aifeedback_dpo.settings import Model
from aifeedback_dpo.weights import Identity

texts = st.text(max_size=12) | st.sampled_from(
    [
        "\0prompt",
        "\0seed",
        '"\\u0000prompt"',
        'x"\0prompt',
        '"prompt":0',
        '","seed":0,"x":"',
        "\\",
        '"',
        "\\u0000",
        "é\u2028",
    ]
)
sources = st.builds(
    Source,
    model=st.builds(Model, id=st.just("m"), dtype=st.sampled_from(["float32", "bfloat16"])),
    identity=st.builds(Identity, texts, texts),
    steps=st.integers(1, 50),
    guidance=st.floats(0, 20, allow_nan=False),
    width=st.none() | st.integers(8, 1024),
    height=st.none() | st.integers(8, 1024),
    scheduler=st.none() | st.sampled_from(["ddim", "seed", "prompt"]),
    negative_prompt=texts,
    policy=texts,
    policy_revision=texts,
    lossy=st.none() | st.just("jpeg"),
)
SOURCE = Source(Model(id="m"), Identity("m", "r"), 2, 7.5, None, None, None, "\0prompt")


@given(st.lists(texts, max_size=4), st.lists(sources, min_size=1, max_size=3), st.integers(0, 4), st.integers(0, 2**31))
@example(["a cat"], [SOURCE], 2, 0)
def test_the_ids_are_those_of_the_shots(prompts, drawn_by, candidates, seed):
    made = plan(prompts, drawn_by, run_seed=seed, candidates=candidates)
    assert [name.decode() for name in made.ids] == [shot.image_id for shot in made]


@given(
    st.lists(texts, min_size=1, max_size=3, unique=True), st.lists(sources, min_size=1, max_size=3), st.integers(1, 5)
)
def test_the_sources_share_the_shots_out(prompts, drawn_by, candidates):
    every = plan(prompts, drawn_by, run_seed=0, candidates=candidates)
    shared = [every.drawn_by(number) for number in range(len(drawn_by))]
    assert sorted(name for own in shared for name in own.ids.tolist()) == sorted(every.ids.tolist())
    for own, source in zip(shared, drawn_by, strict=True):
        assert all(shot.revision == source.identity.revision for shot in own)


def test_a_shot_is_made_by_its_place():
    made = Shots(["a", "b"], [SOURCE], [0, 2], run_seed=1)
    assert len(made) == 4
    assert [shot.prompt for shot in made[1:3]] == ["a", "b"]
    assert made[-1] == made[3] == list(made)[3]
