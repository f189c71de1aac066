"""The results of paper_tables.py as a page, next to the paper's own figures, with what can be said of their order."""

from itertools import combinations
from typing import Any

SEEDS = ("NVAE", "NVAE, seed 2", "NVAE, seed 3")
"""One model, trained three times: how far apart chance alone puts two results."""

NORMALIZATION = {"WN + ELU": (3.36, 3.27, 3.31), "BN + ELU": (3.36, 3.26, 3.22), "BN + Swish": (3.34, 3.23, 3.16)}
"""Table 2: bits/dim with 10, 20 and 40 groups."""
CELLS = {
    "BN + Swish, L = {depth}": ("regular", "regular", 3.11),
    "separable, regular": ("separable", "regular", 3.12),
    "NVAE": ("regular", "separable", 3.07),
    "separable, separable": ("separable", "separable", 3.07),
}
"""Table 3: cells bottom-up and top-down, bits/dim."""
RESIDUAL = {"NVAE": (53, 1.32, 1.80, 3.16), "without residual distributions": (54, 1.36, 1.80, 3.19)}
"""Table 4: active latents, KL and reconstruction in training, bits/dim of the test set."""
PARTS = {"NVAE": 3.16, "without SR": 3.18, "without SE": 3.22}
"""Table 5: bits/dim."""


def format_page(result: dict[str, Any]) -> str:
    """The page as Markdown; ``result`` is what paper_tables.py writes."""
    variants, model = result["variants"], result["model"]
    depths, depth = model["depths"], model["depth"]
    held_out = {name: found["held_out"] for name, found in variants.items()}
    spread = max(held_out[name] for name in SEEDS) - min(held_out[name] for name in SEEDS)
    cells = {name.format(depth=depth): row for name, row in CELLS.items()}
    paper = {f"{name}, L = {here}": row[i] for name, row in NORMALIZATION.items() for i, here in enumerate(depths)}
    same_depth = [
        (f"{a}, L = {here}", f"{b}, L = {here}") for here in depths for a, b in combinations(NORMALIZATION, 2)
    ]
    parts = [
        _introduction(result, spread),
        "## Table 2: normalisation and activation",
        _table(
            ["", *(f"L = {here} (paper: {there})" for here, there in zip(depths, (10, 20, 40), strict=True))],
            [
                [name, *(f"{held_out[f'{name}, L = {here}']:.2f} ({row[i]:.2f})" for i, here in enumerate(depths))]
                for name, row in NORMALIZATION.items()
            ],
        ),
        _verdict(paper, held_out, spread, same_depth),
        "## Table 3: residual cells",
        _table(
            ["bottom-up", "top-down", "bits/dim (paper)", "parameters", "ms a step"],
            [
                [up, down, f"{held_out[name]:.2f} ({there:.2f})", f"{variants[name]['parameters']:,}",
                 f"{variants[name]['milliseconds_a_step']:.0f}"]
                for name, (up, down, there) in cells.items()
            ],
        ),
        _verdict({name: row[2] for name, row in cells.items()}, held_out, spread),
        "## Table 4: residual distributions",
        _table(
            ["", "active latents", "KL", "reconstruction", "held-out bits/dim"],
            [
                ["with" if name == "NVAE" else "without", f"{variants[name]['active_latents']} ({active})",
                 f"{variants[name]['train_kl']:.2f} ({kl:.2f})",
                 f"{variants[name]['train_reconstruction']:.2f} ({shown:.2f})", f"{held_out[name]:.2f} ({test:.2f})"]
                for name, (active, kl, shown, test) in RESIDUAL.items()
            ],
        ),
        _verdict({name: row[3] for name, row in RESIDUAL.items()}, held_out, spread),
        "## Table 5: spectral regularisation, squeeze and excitation",
        _table(
            ["", "bits/dim (paper)"],
            [[name, f"{held_out[name]:.2f} ({there:.2f})"] for name, there in PARTS.items()],
        ),
        _verdict(PARTS, held_out, spread),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _introduction(result: dict[str, Any], spread: float) -> str:
    machine, model, images = result["machine"], result["model"], result["images"]
    steps = [found["steps"] for found in result["variants"].values()]
    best = min(found["held_out"] for found in result["variants"].values())
    seeds = ", ".join(f"{result['variants'][name]['held_out']:.2f}" for name in SEEDS)
    return f"""# The paper's tables on a small model

Tables 2 to 5 of the NVAE paper vary one component each on CIFAR-10. Here the same is done with the official recipe
without flows, {model["width"]} channels wide at the stem and with {", ".join(map(str, model["depths"]))} groups \
({model["depth"]} in tables 3 to 5), batches of
{model["batch"]}. Every variant is trained for {result["minutes_each"]:g} min of processor time on one core \
({machine["processor"]}, torch {machine["torch"]}) on
{images["trained_on"]:,} images and measured, as the negative ELBO, on {images["held_out"]} others. \
The paper's figures stand in brackets. Convolutions
of regular cells have normalised weights throughout, as in the official code, but for its start from the data, which
WN + ELU has there.

**How far this goes.** That is {min(steps)} to {max(steps)} steps, where the paper's have tens of thousands on eight \
GPUs; the best variant
reaches {best:.2f} bits/dim where the paper's are near 3.2. One model trained from three seeds gives {seeds}: a spread \
of {spread:.2f}.
Smaller differences are called chance below; larger ones show which variant learns
fastest at first, not which is best when trained. Longer budgets are one option of the command:

```console
python -m tools.paper_tables --data cifar10/train.npz --minutes-each 60 \\
    --json docs/results/paper_tables.json --page docs/paper-tables.md
```"""


def _verdict(
    paper: dict[str, float], here: dict[str, float], spread: float, pairs: list[tuple[str, str]] | None = None
) -> str:
    """Whether the paper's order holds: over all pairs of variants (or those given) that differ in the paper."""
    told = [(a, b) for a, b in pairs or list(combinations(paper, 2)) if paper[a] != paper[b]]
    differences = [(here[a] - here[b]) * (1 if paper[a] > paper[b] else -1) for a, b in told]
    agree, differ = (sum(sign * value > spread for value in differences) for sign in (1, -1))
    holds = "holds" if agree == len(told) else "does not hold" if differ else "is not seen"
    chance = len(told) - agree - differ
    return (
        f"The paper's order {holds} at this size and budget: of {len(told)} {'pair' if len(told) == 1 else 'pairs'} "
        f"that differ in the paper, {agree} "
        f"{'agrees' if agree == 1 else 'agree'}, {differ} {'is' if differ == 1 else 'are'} the other way round, and "
        f"{chance} {'lies' if chance == 1 else 'lie'} within chance."
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])
