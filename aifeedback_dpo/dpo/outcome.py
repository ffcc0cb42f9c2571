"""How a policy ends: saved, with its description last, or with a line on why there is none and what is left of it."""

import json

from safetensors import SafetensorError

from aifeedback_dpo import engine, provenance
from aifeedback_dpo.disk import sync
from aifeedback_dpo.dpo import losses
from aifeedback_dpo.dpo.loop import Member
from aifeedback_dpo.dpo.network import Network
from aifeedback_dpo.errors import DdpoError
from aifeedback_dpo.models.diffuser import Diffuser
from aifeedback_dpo.store import Run


def stop(run: Run, member: Member) -> str:
    """Notes why a policy was stopped, for `ddpo status`, and gives what to say of it: what is left, and what to try."""
    job = member.job
    run.write_text(job.folder / "stopped.txt", f"{member.failed}\n")
    return f"{job.name} was stopped at {member.failed}. {_remains(member)}"


def finish(
    run: Run,
    member: Member,
    network: Network,
    model: Diffuser,
    progress: engine.Progress,
    *,
    elements: int,
    writes: bool = True,
) -> list[str]:
    """Saves a policy, its description last. Gives what to say of one that cannot be used. A latent has c * h * w `elements`.

    One process `writes`; where the network is sharded, all others must be here too.
    """
    settings, job, last = run.recipe.train, member.job, member.last
    if last is None:
        return [f"{job.name}: all pairs visited in train.steps={settings.steps} are ties; raise train.steps"]
    if not member.policy.finite():
        return [f"the weights of {job.name} are not finite after step {last['step']}. {_remains(member)}"]
    if warning := member.watch.warning():
        progress.note(f"Warning, {job.name}: {warning}")
    if member.ended:
        progress.note(f"{job.name} ended early, after step {last['step']}: {member.ended}")
    member.policy.settle()
    try:
        network.save(member.policy.at, job.folder, writes=writes)
        if not writes:
            return []
        sync(job.folder)
    except SafetensorError as error:
        raise DdpoError(
            f"cannot write the policy to {job.folder}: {error}; make room and run `ddpo train` again"
        ) from error
    description = {
        "judge": job.judge,
        "seed": job.seed,
        "objective": settings.objective,
        "method": settings.method,
        "pairs": job.pairs,
        "ties_left_out": job.ties,
        "beta": settings.beta,
        "beta_of_equation_14": losses.summed_beta(settings.beta, elements),
        "settings": settings.model_dump(mode="json", exclude={"judges", "seeds"}),
        "base": {"model": model.identity.name, "revision": model.identity.revision},
        "weights": provenance.weights_fingerprint(job.folder),
        "labels": run.labels(job.judge),
        "inputs": job.inputs,
        "made_from": job.made_from,
        "steps": last["step"] + 1,
        "ended_early": member.ended,
        "last": {name: value for name, value in last.items() if name != "step"},
        "warning": warning,
        **provenance.versions(),
    }
    run.write_text(job.folder / "policy.json", json.dumps(description, indent=2) + "\n")
    run.record(f"train/{job.policy}/seed-{job.seed}", "done", pairs=job.pairs, ties=job.ties)
    return []


def _remains(member: Member) -> str:
    saved = member.job.checkpoints()
    kept = f"The state after step {saved[-1]} is kept in {member.job.folder}" if saved else "Nothing was saved"
    return f"{kept}. {member.watch.remedy()}"
