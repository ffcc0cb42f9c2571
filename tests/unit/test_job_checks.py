"""Settings that do not go with so many processes, or with sharding: refused before anything is launched."""

import pytest

from aifeedback_dpo.dpo import jobs
from aifeedback_dpo.errors import UserError
from aifeedback_dpo.settings.training import Train


@pytest.mark.parametrize(
    ("batch_size", "micro", "processes", "fits"),
    [
        (8, None, 1, True),
        (8, None, 4, True),
        (8, None, 3, False),
        (2, None, 4, False),
        (8, 2, 4, True),
        (8, 4, 4, False),
    ],
)
def test_a_batch_divides_among_processes_in_micro_batches_or_is_refused(batch_size, micro, processes, fits):
    settings = Train(batch_size=batch_size, micro_batch_size=micro)
    if fits:
        jobs.check(settings, processes=processes, sharded=False)
        return
    with pytest.raises(UserError, match=rf"train\.batch_size={batch_size} does not divide among {processes} processes"):
        jobs.check(settings, processes=processes, sharded=False)


@pytest.mark.parametrize(
    "wrong",
    [{"compile": True}, {"method": "full", "optimizer": "adafactor"}, {"method": "full", "precision": "float16"}],
)
def test_what_does_not_go_with_sharding_is_refused_with_what_to_do(wrong):
    with pytest.raises(UserError, match=f"train.{list(wrong)[-1]}=.*--launcher ddp"):
        jobs.check(Train(**wrong), processes=2, sharded=True)
    jobs.check(Train(**wrong), processes=2, sharded=False)
    whole = Train(optimizer="adafactor", precision="float16")  # of a LoRA
    jobs.check(whole, processes=2, sharded=True)
