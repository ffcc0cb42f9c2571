"""The suites that are known by name: where their prompts are, and the protocol by which numbers on them were published."""

from dataclasses import dataclass

from aifeedback_dpo.compare.suites.suite import Statistic

STYLES = ("anime", "concept-art", "paintings", "photo")  # HPSv2's, in its order
COCO_CAPTIONS = 30_000


@dataclass(frozen=True)
class Protocol:
    """How published numbers came about; None is what was left open, or is the model's own."""

    images: int
    statistic: Statistic = "mean"
    seeds: str | None = None
    resolution: str | None = None
    scheduler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    note: str = ""
    never_followed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """A suite: how many prompts it has, its files by name or pattern, on the hub (`hub`) or where `fetch` says.

    Where `styles`, the name of a file is the category of its prompts.
    """

    about: str
    prompts: int
    files: tuple[str, ...]
    licence: str
    protocol: Protocol
    hub: str | None = None
    fetch: str = ""
    styles: bool = False


# AIDC-AI/Diffusion-SDPO, scripts/eval: seed 0, 50 steps, guidance 7.5
_SDPO = {
    "images": 1,
    "seeds": "0 for every prompt",
    "resolution": "512x512 (SD 1.5), 1024x1024 (SDXL)",
    "steps": 50,
    "guidance": 7.5,
}

KNOWN = {
    "parti": Known(
        about="PartiPrompts (Yu et al. 2022, arXiv:2206.10789): 1,632 prompts in 12 categories",
        prompts=1632,
        files=("PartiPrompts.tsv",),
        licence="Apache-2.0",
        hub="nateraw/parti-prompts",
        protocol=Protocol(
            **_SDPO,  # type: ignore[arg-type]
            note="drawn as in Diffusion-SDPO's evaluation; Wallace et al. 2023 (arXiv:2311.12908) ask people about one "
            "picture of each prompt",
        ),
    ),
    "hpsv2": Known(
        about="the benchmark of HPS v2 (Wu et al. 2023, arXiv:2306.09341): 800 prompts in each of four styles",
        prompts=3200,
        files=tuple(f"benchmark/{style}.json" for style in STYLES),
        licence="Apache-2.0",
        hub="zhwang/HPDv2",
        styles=True,
        protocol=Protocol(
            images=1,
            note="one picture a prompt, however it is drawn; a style is the mean over its prompts, the average the mean over "
            "all; the published deviation is one of ten means of 80 prompts and no confidence interval",
        ),
    ),
    "pickapic": Known(
        about="prompts of Pick-a-Pic v2's test_unique (Kirstain et al. 2023, arXiv:2305.01569)",
        prompts=500,
        files=("data/test_unique-*.parquet",),
        licence="see the card of Pick-a-Pic",
        hub="yuvalkirstain/pickapic_v2_no_images",
        protocol=Protocol(
            **_SDPO,  # type: ignore[arg-type]
            note="the 500 rows are 487 different prompts; drawn as in Diffusion-SDPO's evaluation, which takes the different "
            "ones",
        ),
    ),
    "pickapic-validation": Known(
        about="prompts of Pick-a-Pic v1's validation_unique (Kirstain et al. 2023, arXiv:2305.01569)",
        prompts=500,
        files=("data/validation_unique-*.parquet",),
        licence="see the card of Pick-a-Pic",
        hub="yuvalkirstain/pickapic_v1_no_images",
        protocol=Protocol(
            images=1,
            scheduler="ddim",
            steps=20,
            guidance=5.0,
            note="as in SPO's table (Liang et al. 2024, arXiv:2406.04314; settings by its authors in RockeyCoss/SPO#12)",
        ),
    ),
    "geneval": Known(
        about="GenEval (Ghosh et al. 2023, arXiv:2310.11513): 553 prompts of six tasks, checked by an object detector",
        prompts=553,
        files=("evaluation_metadata.jsonl",),
        licence="MIT",
        fetch="curl -LO https://raw.githubusercontent.com/djghosh13/geneval/main/prompts/evaluation_metadata.jsonl",
        protocol=Protocol(
            images=4,
            seeds="42 for every prompt",
            scheduler="ddim",
            steps=50,
            guidance=9.0,
            note="the score is the mean of the six tasks' means over pictures; these are the defaults of its own script",
            never_followed=("objects are found by a detector of transformers, not by mmdetection's Mask2Former",),
        ),
    ),
    "drawbench": Known(
        about="DrawBench (Saharia et al. 2022, arXiv:2205.11487): 200 prompts that probe single abilities",
        prompts=200,
        files=("benchmark/drawbench.json",),
        licence="Apache-2.0 (the copy in HPDv2)",
        hub="zhwang/HPDv2",
        protocol=Protocol(
            images=1,
            note="no protocol for automatic scores was published with it: Imagen's authors show people eight pictures of each "
            "prompt",
        ),
    ),
    "coco": Known(
        about="captions of MS-COCO's validation pictures of 2014 (Lin et al. 2014, arXiv:1405.0312), for FID",
        prompts=COCO_CAPTIONS,
        files=("captions_val2014.json", "captions_val2017.json"),
        licence="CC BY 4.0 (captions); the pictures have Flickr's terms",
        fetch="curl -LO http://images.cocodataset.org/annotations/annotations_trainval2014.zip (captions) and "
        "http://images.cocodataset.org/zips/val2014.zip (pictures), unzip both into FOLDER and give --suite coco=FOLDER",
        protocol=Protocol(
            images=1,
            note="by convention 30,000 captions, or 10,000 with --limit 10000, one a picture; FID is a guard against collapse "
            "and no target: on COCO it orders models against people's preference (rank correlation -0.90; Kirstain et al. "
            "2023)",
            never_followed=(
                "nobody published which 30,000 captions; these are a draw of our own, the same every time",
            ),
        ),
    ),
}
